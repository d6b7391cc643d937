"""What a person sees of a run: moving bars on a terminal, one line per round anywhere."""

import time
from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from dal.callbacks.round_log import Record, RoundLog, Run

PAUSE = 10.0  # seconds between the lines of one run, where several share a terminal


class ProgressLog(RoundLog):
    """Bars for rounds, training steps and pool rows, then a table and where the files are.

    Where several runs share a terminal it prints a line at the beginning and one at the end, each
    with the title, and between them a round's now and then.

    Args:
        title: printed first.
        shared: whether other runs print on the same terminal.
        console: where to print; standard output if None.
    """

    def __init__(
        self, title: str = "", *, shared: bool = False, console: Console | None = None
    ) -> None:
        self.title = title
        self.shared = shared
        self.prefix = f"{title}  " if shared else ""
        self.began = self.printed = time.monotonic()
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.bars: Progress | None = None
        self.tasks: dict[str, TaskID] = {}

    def on_run_start(self, run: Run) -> None:
        """Say what is about to run, and show the bars on a terminal."""
        data = run.data
        state = f"{data.n_labelled} labelled, {data.pool.n_unlabelled} in the pool"
        if held_out := len(data.pool.held_out):
            state += f", {held_out} for validation"
        plan = f"{run.rounds} rounds of {run.query_size}"
        title = escape(self.title or run.strategy)
        self._print(f"[bold]{title}[/]  {state}; {plan}", plain=True)
        if run.records and not run.records[-1]["acquired"]:
            self._print("already complete, nothing to do")
        elif run.records:
            self._print(f"continuing after round {run.records[-1]['round']}")
        if self.console.is_terminal and not self.shared:
            self.bars = Progress(
                TextColumn("{task.description:<8}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self.bars.start()
            total = run.rounds + 1
            self.tasks["rounds"] = self.bars.add_task(
                "rounds", total=total, completed=len(run.records)
            )

    def trainer_callbacks(self) -> list[pl.Callback]:
        """Count training steps where there are bars."""
        return [_Steps(self)] if self.bars else []

    def on_steps(self, done: int, total: int) -> None:
        """Count training steps."""
        self._count("training", done, total)

    def on_preflight(self, line: str) -> None:
        """Print what queries will take."""
        if not self.shared:
            self._print(line)

    def on_pool_batch_end(self, done: int, total: int) -> None:
        """Count rows of the pool."""
        self._count("pool", done, total)

    def on_round_end(self, run: Run, record: Record) -> None:
        """Print the round's line."""
        for name in ("training", "pool"):
            self._hide(name)
        if self.bars:
            self.bars.update(self.tasks["rounds"], completed=len(run.records))
        if self.shared and (not record["acquired"] or time.monotonic() - self.printed < PAUSE):
            return
        accuracy = record.get("test/accuracy")
        self._print(
            f"round {record['round']:>3}  {record['n_labelled']:>6} labels  "
            + (f"accuracy {accuracy:.3f}  " if accuracy is not None else "")
            + f"train {record['train_seconds']:.1f} s  query {record['acquisition_seconds']:.1f} s"
        )

    def on_run_end(self, run: Run) -> None:
        """Print the table of the run and the paths a person wants next."""
        self._stop()
        last = run.records[-1]
        if "stopped" in last:
            self._print(f"stopped by {last['stopped']}")
        if self.shared:
            seconds = time.monotonic() - self.began
            accuracy = last.get("test/accuracy")
            reached = f"  accuracy {accuracy:.3f}" if accuracy is not None else ""
            self._print(f"done  {last['n_labelled']} labels{reached}  {seconds:.0f} s")
            return
        self.console.print(_table(run))
        if run.directory is not None:
            self._print(f"run    {run.directory}")
            if (run.directory / "curve.png").exists():
                self._print(f"curve  {run.directory / 'curve.png'}")

    def close(self) -> None:
        """Give the terminal back."""
        self._stop()

    def _print(self, line: str, *, plain: bool = False) -> None:
        self.console.print(line if plain else f"{self.prefix}{line}", markup=plain)
        self.printed = time.monotonic()

    def _count(self, name: str, done: int, total: int) -> None:
        if self.bars:
            if name not in self.tasks:
                self.tasks[name] = self.bars.add_task(name, total=total)
            self.bars.update(self.tasks[name], completed=done)

    def _hide(self, name: str) -> None:
        if self.bars and name in self.tasks:
            self.bars.remove_task(self.tasks.pop(name))

    def _stop(self) -> None:
        if self.bars:
            self.bars.stop()
            self.bars = None


class _Steps(pl.Callback):
    def __init__(self, log: ProgressLog) -> None:
        self.log_steps = log.on_steps
        self.total = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.total = int(trainer.estimated_stepping_batches)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.log_steps(trainer.global_step, self.total)


def _table(run: Run) -> Table:
    table = Table(box=None, header_style="bold")
    columns = {
        "round": ("round", "{:d}"),
        "labels": ("labels_used", "{:d}"),
        **({"cost": ("cost_used", "{:.6g}")} if run.data.costs is not None else {}),
        "accuracy": ("test/accuracy", "{:.3f}"),
        "NLL": ("test/nll", "{:.3f}"),
        "ECE": ("test/ece", "{:.3f}"),
        "worst group": ("test/worst_group_accuracy", "{:.3f}"),
        "train s": ("train_seconds", "{:.2f}"),
        "query s": ("acquisition_seconds", "{:.2f}"),
        "peak MiB": ("peak_memory_bytes", "{:.0f}"),
    }
    for title in columns:
        table.add_column(title, justify="right")
    for record in run.records:
        cells = []
        for key, form in columns.values():
            value = record.get(key)
            if value is not None and key == "peak_memory_bytes":
                value /= 2**20
            cells.append("" if value is None else form.format(value))
        table.add_row(*cells)
    return table
