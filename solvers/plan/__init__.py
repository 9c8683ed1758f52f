"""A solver on a grid as a program of coefficients: traced, run on tensors and Gaussian data, kept in files."""

from solvers.plan.instructions import PlanError
from solvers.plan.plan import Plan
from solvers.plan.trace import NotLinearError

__all__ = ["NotLinearError", "Plan", "PlanError"]
