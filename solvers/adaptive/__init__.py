"""Solvers that choose their own steps: for each sample on its own, or by an ODE library for the batch."""
