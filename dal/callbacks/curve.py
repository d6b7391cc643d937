"""Redraw `curve.png` as the run goes on."""

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
        best = max(point.mean for point in points)
        title = f"{run.strategy}: {best:.3f} at best, {points[-1].n_labelled} labels"
        plot_curves({run.strategy: points}, run.directory / "curve.png", title)
        self.drawn = time.perf_counter()
        self.cost = self.drawn - started
