"""What multistep methods share: the history, the start, and the orders that follow from it."""

from __future__ import annotations

from solvers.coefficients import runge_kutta, tableaus
from solvers.coefficients.interpolation import combine, exact, halved, halved_after_midpoint, midpoint
from solvers.errors import known

STARTERS = ("cold", "singlestep")
TYPES = {"midpoint": midpoint, "heun": exact}  # between two slopes
VARIANTS = {"exact": exact, "published": halved}  # between three
VARIANTS_BY_TYPE = {"midpoint": {"exact": midpoint, "published": halved_after_midpoint}, "heun": VARIANTS}
BY_ORDER = {1: "euler", 2: "midpoint", 3: "heun3", 4: "rk4"}  # tableaus of singlestep starts


def reached(order, starter):
    """The order reached with ``order`` nodes: from a cold start at most 2, since its first step is first order."""
    return order if starter == "singlestep" else min(order, 2)


def declared(options):
    """The order of a method with the options ``order`` and ``starter``."""
    return reached(options["order"], options["starter"])


def order_of_3m(options):
    """2 for the published formula, whose second derivative is half of what it should be, and with a last step of order
    one."""
    exact = options["variant"] == "exact" and not options.get("lower_order_final")
    return reached(3, options["starter"]) if exact else 2


def check(name, order, starter, most=4):
    """Refuse orders outside 1 … most and starters that there are not."""
    if order not in range(1, most + 1):
        raise ValueError(f"{name} has orders 1 to {most}, got {order}")
    known("starter", starter, STARTERS, of=name)


def choose(name, option, value, rules):
    """The rule of that name, or an error that gives the nearest."""
    return rules[known(option, value, rules, of=name)]


def adams(steps, x, predict, frame, order, rule, starter="cold", noise=None, lower_order_final=False):
    """y_s = y_t + Σ_j w_j slope_j over the last ``order`` slopes, weights by a rule of :mod:`.interpolation`.

    A cold start takes the rule with as many nodes as there are: orders 1, 2, …. The singlestep start takes
    Runge–Kutta steps of order − 1 in the same frame for the first order − 2 steps: with k slopes the local error is
    O(h^{k+1}), and at the first few steps O(h^order) is enough. With ``noise``, each step adds the frame's. With
    ``lower_order_final`` step i = 0 … n − 1 of n has at most n − i nodes.
    """
    history = []
    for index, (t, s) in enumerate(steps):
        history = [(t, frame.slope(predict(x, t), t)), *history][:order]
        if starter == "singlestep" and index < order - 2:
            method = tableaus.described(BY_ORDER[order - 1])
            x = yield runge_kutta.take(method, frame, steps, x, t, s, history[0][1], predict, noise)
        else:
            nodes = history[: len(steps) - index] if lower_order_final else history
            x = yield frame.move(x, t, s, integral(frame, rule, t, s, nodes) + frame.diffused(t, s, noise))


def integral(frame, rule, t, s, history):
    """Σ_j w_j slope_j over (noise level, slope) pairs."""
    nodes, slopes = zip(*history, strict=True)
    return combine(rule(frame, t, s, nodes), slopes)
