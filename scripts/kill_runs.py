"""Kill runs with SIGKILL, continue each with the same command, compare it with an undisturbed one.

python scripts/kill_runs.py                         100 kills at random times over the default job
python scripts/kill_runs.py --kills 25 -- rounds=3  options after -- go to train.py
python scripts/kill_runs.py --moments -- rounds=1   one kill at each of the moments of writing

The purchases, the metrics (bit for bit), the number of rounds and what W&B has must be equal.
"""

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

from kills import running
from kills.comparing import Outcome, differences, n_rounds, outcome, phase
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table


def main() -> None:
    """Run the job once undisturbed, then with kills; end with 1 if anything differs."""
    options = _options()
    out = options.out.resolve()
    if out.exists() and any(out.iterdir()):
        sys.exit(f"error: {options.out} is not empty; delete it, or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    if options.fork or options.moments:
        running.preload()
    running.adopt_orphans()
    start = running.fork if options.fork or options.moments else running.start
    console = Console()
    began = time.monotonic()
    code = running.wait(start(out / "undisturbed", options.job))
    seconds = time.monotonic() - began
    if code != 0:
        sys.exit(f"error: the undisturbed run ended with {code}, see {out}/undisturbed.log")
    wanted = outcome(out / "undisturbed")
    console.print(f"undisturbed: {len(wanted.rounds)} rounds in {seconds:.1f} s", highlight=False)
    with Progress(
        TextColumn("kills"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=True, auto_refresh=False,  # a thread would not survive forks
    ) as bar:  # fmt: skip
        campaign = Campaign(out, options.job, wanted, bar)
        if options.moments:
            campaign.at_moments()
        else:
            campaign.at_random(start, options.kills, seconds, random.Random(options.seed))  # noqa: S311
    console.print(_table(campaign.phases), highlight=False)
    found = campaign.found
    summary = f"{campaign.kills} kills of {campaign.runs} runs, {len(found)} differences"
    console.print(summary, *found, sep="\n", highlight=False, markup=False, soft_wrap=True)
    sys.exit(1 if campaign.found else 0)


class Campaign:
    """Kills runs and collects what came of it.

    Args:
        out: folder for the runs.
        job: options of train.py.
        wanted: of the run that nobody disturbed.
        bar: shows the kills.
    """

    def __init__(self, out: Path, job: list[str], wanted: Outcome, bar: Progress) -> None:
        self.out, self.job, self.wanted, self.bar = out, job, wanted, bar
        self.phases: Counter[str] = Counter()
        self.kills = self.runs = 0
        self.found: list[str] = []

    def at_random(
        self, start: running.Start, kills: int, seconds: float, generator: random.Random
    ) -> None:
        """Kill at times drawn over `seconds`, again and again until each run is complete.

        They grow where a kill comes before a new round and shrink where a run ends before its
        kill, since other work on the machine makes runs slower and faster.
        """
        task = self.bar.add_task("kills", total=kills)
        while self.kills < kills:
            folder, code = self.out / f"killed-{self.runs:03d}", None
            while code is None:
                said, done = _said(folder), n_rounds(folder)
                pid = start(folder, self.job)
                patient = self.kills >= kills
                limit = running.PATIENCE if patient else generator.uniform(0, seconds)
                code = running.wait(pid, limit)
                if code is None and patient:
                    running.kill(pid, generator)
                    self.found.append(f"{folder.name}: hangs")
                    return
                if code is None:
                    running.kill(pid, generator)
                    self.kills += 1
                    self.phases[phase(folder, _said(folder)[len(said) :])] += 1
                    seconds *= 1.1 if n_rounds(folder) == done else 1
                self.bar.update(task, completed=self.kills, refresh=True)
            seconds *= 0.9
            self._compare(folder, code, "")

    def at_moments(self) -> None:
        """Kill once at each moment of writing that a run has."""
        running.wait(running.fork(self.out / "moments", self.job, moment=-1))
        moments = (self.out / "moments.moments").read_text().splitlines()
        task = self.bar.add_task("kills", total=len(moments))
        for moment, what in enumerate(moments, 1):
            folder = self.out / f"moment-{moment:03d}"
            code = running.wait(running.fork(folder, self.job, moment=moment))
            self.kills += 1
            self.phases[what.split()[0]] += 1
            if code != -9:
                self.found.append(f"{folder.name} ended with {code} and was not killed at {what}")
            self._compare(folder, running.wait(running.fork(folder, self.job)), f" ({what})")
            self.bar.update(task, advance=1, refresh=True)

    def _compare(self, folder: Path, code: int | None, what: str) -> None:
        self.runs += 1
        if code == 0:
            found = differences(self.wanted, outcome(folder))
        else:
            found = [f"ended with {code}: {' '.join(_said(folder).splitlines()[-1:])}"]
        self.found += [f"{folder.name}{what}: {line}" for line in found]


def _said(folder: Path) -> str:
    file = folder.with_suffix(".log")
    return file.read_text() if file.exists() else ""


def _table(phases: Counter[str]) -> Table:
    table = Table("killed", box=None, header_style="bold")
    table.add_column("kills", justify="right")
    for name, count in sorted(phases.items()):
        table.add_row(name, str(count))
    return table


def _options() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--kills", type=int, default=100, help="100")
    parser.add_argument("--seed", type=int, default=0, help="of the times; 0")
    parser.add_argument("--moments", action="store_true", help="kill where a run writes instead")
    parser.add_argument(
        "--fork", action="store_true",
        help="copy a process that has the libraries: kills cost less, start-up is left out",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("runs/kills"), help="runs/kills")
    parser.add_argument("job", nargs="*", help="options of train.py")
    options = parser.parse_args()
    if options.kills < 1:
        parser.error(f"--kills must be at least 1, got {options.kills}")
    if not any(word.startswith("strategy=") for word in options.job):
        options.job = ["strategy=bald", *options.job]
    return options


if __name__ == "__main__":
    main()
