"""What a job of a sweep tells the command that started it: one small file each.

The jobs may run in other processes, or on other machines with the same disk. The variable
DAL_SWEEP holds, as JSON, the folder of the notes and the number of jobs.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

VARIABLE = "DAL_SWEEP"


class JobNote:
    """The note of one job; nothing is kept of a job that no such command started.

    Args:
        number: of the job, from 0; None outside of a sweep.
        title: what it runs.
        directory: of the run.
        sweep: the folder that holds the directories of the sweep's runs.
    """

    def __init__(self, number: int | None, title: str, *, directory: str, sweep: str) -> None:
        self.facts: dict[str, Any] = {"title": title, "directory": directory, "sweep": sweep}
        self.started = time.time()
        self.file: Path | None = None
        self.end = "ran"
        self.count = ""
        if number is not None:
            with suppress(LookupError, ValueError, TypeError):
                asked = json.loads(os.environ[VARIABLE])
                self.file = Path(asked["folder"]) / f"{number}.json"
                if asked["jobs"]:
                    total = str(asked["jobs"])
                    self.count = f"[{number + 1:>{len(total)}}/{total}] "

    def keep(self, status: str, reason: str = "") -> bool:
        """Write how the job stands; say whether that was done."""
        if self.file is None:
            return False
        seconds = time.time() - self.started
        content = self.facts | {"status": status, "reason": reason, "seconds": seconds}
        partial = self.file.with_suffix(f".{os.getpid()}")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(content))
            partial.replace(self.file)
        except OSError:
            return False
        return True

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note that the job began, and how it left the block unless by an error."""
        self.keep("running")
        try:
            yield
        except Exception:
            raise  # whoever catches it knows how to say it
        except BaseException:
            self.keep("stopped")
            raise
        else:
            self.keep(self.end)
