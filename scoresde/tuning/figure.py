"""What a tuned solver gains, and its numbers, as one picture."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from scoresde.tuned import TunedSolver

PLAIN, FITTED = "#8a8a8a", "#d62728"


def figure(solver: TunedSolver) -> Figure:
    """Errors before and after, the levels of every plan, and the errors of single samples, by evaluations."""
    made = Figure(figsize=(12, 4), layout="constrained")
    errors, levels, samples = made.subplots(1, 3)
    counts = list(solver.members)
    for name, label, color in (("fixed", "best fixed solver", PLAIN), ("taken", "tuned", FITTED)):
        reports = [member.report[name] for member in solver.members.values()]
        errors.plot(counts, [report["mean"] for report in reports], "o-", color=color, label=f"{label}, mean")
        medians = [report["median"] for report in reports]
        errors.plot(counts, medians, "o:", color=color, markerfacecolor="white", label=f"{label}, median")
    errors.set(xlabel="evaluations", ylabel="distance from the converged sample", yscale="log", xticks=counts)
    errors.set_title("Error of fresh samples", fontsize=10)
    errors.legend(fontsize=8, loc="upper right")
    for count, member in solver.members.items():
        if member.numbers is not None and count > 1:
            own = member.numbers.levels[1:]
            levels.plot(own, [count] * len(own), "o-", color=FITTED, markersize=4, linewidth=0.8)
    levels.set(xlabel="noise level σ/α of an evaluation after the first", ylabel="evaluations", xscale="log")
    levels.set_yticks(counts)
    levels.set_title("Where the plans look", fontsize=10)
    for count, member in solver.members.items():
        pairs = member.report["samples"]
        samples.scatter(pairs["fixed"], pairs["taken"], s=8, label=str(count), alpha=0.7)
    pairs = [member.report["samples"] for member in solver.members.values()]
    known = [value for pair in pairs for values in pair.values() for value in values]
    ends = [min(known), max(known)]
    samples.plot(ends, ends, color=PLAIN, linewidth=0.8)
    samples.set(xlabel="error by the best fixed solver", ylabel="error by the tuned one", xscale="log", yscale="log")
    samples.set_title("Single samples: below the line is better", fontsize=10)
    samples.legend(fontsize=8, title="evaluations", title_fontsize=8)
    levels.invert_xaxis()  # from noise to data
    for axis in (errors.yaxis, levels.xaxis, samples.xaxis, samples.yaxis):
        subs = (1.0,) if axis.axes is samples else (1.0, 2.0, 5.0)
        axis.set_major_locator(LogLocator(subs=subs, numticks=12))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    for axes in (errors, levels, samples):
        axes.grid(alpha=0.3)
    return made
