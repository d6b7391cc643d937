"""Write `rounds.csv`: the numbers of `rounds.jsonl` for a spreadsheet."""

import csv
import io

from dal.callbacks.round_log import Record, RoundLog, Run
from dal.files import write_atomically


class CsvLog(RoundLog):
    """One row per round; what is no number (lists, groups) stays in `rounds.jsonl`."""

    def on_round_end(self, run: Run, record: Record) -> None:
        """Write the file anew, so that a continued run has every round once."""
        if run.directory is None:
            return
        columns = {
            name: None
            for row in [record, *run.records]
            for name, value in row.items()
            if isinstance(value, int | float)
        }
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(run.records)
        write_atomically(run.directory / "rounds.csv", text.getvalue().encode())
