"""Redraw `curve.png` as the run goes on."""

import textwrap
import time

from dal.analysis.curves import curve, plot_curves
from dal.callbacks.round_log import Record, RoundLog, Run

SHARE = 0.05  # of the run's time that drawing may take


class Curve(RoundLog):
    """Keeps the learning curve of the run in its directory.

    It is drawn after every round, unless rounds are so short that this would take more than a
    twentieth of the time; the last round is always drawn.
    """

    def __init__(self) -> None:
        self.drawn = -float("inf")
        self.cost = 0.0

    def on_round_end(self, run: Run, record: Record) -> None:
        """Draw the curve so far, if it is time."""
        if time.perf_counter() - self.drawn > self.cost / SHARE:
            self._draw(run)

    def on_run_end(self, run: Run) -> None:
        """Draw the whole curve."""
        self._draw(run)

    def _draw(self, run: Run) -> None:
        if run.directory is None or not any("test/accuracy" in record for record in run.records):
            return
        started = time.perf_counter()
        points = curve({"run": run.records})
        curves = {"test": points}
        if any("val/accuracy" in record for record in run.records):
            curves["validation"] = curve({"run": run.records}, "val/accuracy")
        best = max(point.mean for point in points)
        title = f"{run.strategy}: {best:.3f} at best, {points[-1].labels} labels"
        if stopped := run.records[-1].get("stopped"):
            title += f"\nstopped: {textwrap.shorten(stopped, 90)}"
        plot_curves(curves, run.directory / "curve.png", title, "accuracy")
        self.drawn = time.perf_counter()
        self.cost = self.drawn - started
