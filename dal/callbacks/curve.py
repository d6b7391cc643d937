"""Redraw `curve.png` after every round."""

from dal.analysis.curves import curve, plot_curves
from dal.callbacks.round_log import Record, RoundLog, Run


class Curve(RoundLog):
    """Keeps the learning curve of the run in its directory."""

    def on_round_end(self, run: Run, record: Record) -> None:
        """Draw the curve so far."""
        if run.directory is None or "test/accuracy" not in record:
            return
        points = curve({"run": run.records})
        best = max(point.mean for point in points)
        title = f"{run.strategy}: {best:.3f} at best, {record['n_labelled']} labels"
        plot_curves({run.strategy: points}, run.directory / "curve.png", title)
