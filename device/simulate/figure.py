"""The figure of a simulation: charge and fraction over time, accuracy against life.

This is the only module of the device that imports matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from device.simulate.simulation import Outcome
from shared.command import needing_extra
from shared.errors import UsageError


def draw(outcomes: Sequence[Outcome], title: str, path: Path) -> None:
    """Write the figure of ``outcomes`` to ``path`` (.svg, .png or .pdf)."""
    with needing_extra("train", "--figure"):
        import matplotlib as mpl
        from matplotlib.figure import Figure
    # Without date and random identifiers, so that equal simulations give equal files.
    with mpl.rc_context({"svg.hashsalt": "taper", "font.size": 9}):
        figure = Figure(figsize=(9, 5.5), layout="constrained")
        figure.suptitle(title)
        charge, points, fraction = figure.subplot_mosaic([["c", "p"], ["f", "p"]]).values()
        for number, outcome in enumerate(outcomes):
            colour = f"C{number % 10}"
            days = [moment.day for moment in outcome.moments]
            levels = [100 * moment.charge for moment in outcome.moments]
            charge.plot(days, levels, color=colour, label=outcome.policy)
            fractions = [moment.fraction for moment in outcome.moments]
            alive = [day for day in days if day <= outcome.life_days]
            fraction.step(alive, fractions[: len(alive)], color=colour, where="post")
            points.plot(outcome.life_days, 100 * outcome.accuracy, "o", color=colour)
            points.annotate(
                outcome.policy,
                (outcome.life_days, 100 * outcome.accuracy),
                xytext=(5, 4),
                textcoords="offset points",
            )
        charge.set(xlabel="day", ylabel="charge, %")
        fraction.set(xlabel="day", ylabel="fraction", ylim=(0, 1.05))
        points.set(xlabel="life, days", ylabel="accuracy, %")
        points.margins(0.2)
        for axes in (charge, fraction, points):
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        charge.legend(frameon=False, fontsize=8)
        try:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        except (OSError, ValueError) as error:
            raise UsageError(f"--figure: {path} cannot be written ({error})") from None
