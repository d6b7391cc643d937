"""A W&B log that kills its process at given places, and a script that starts a run again and again.

python wandb_kills.py FOLDER PLACE... -- OPTIONS: one run after the other in FOLDER/run, each killed
at the next place, and then one that nobody kills.
"""

import os
import signal
import sys
import time
from pathlib import Path

from cli import ROOT

from dal.callbacks.wandb_log import WandbLog

PLACE = "DAL_TEST_PLACE"
FLUSHED = 1.5  # seconds after which W&B has written what was logged


class KilledLog(WandbLog):
    def _keep(self, **facts):
        super()._keep(**facts)
        die("named")

    def on_run_start(self, run):
        super().on_run_start(run)
        die("opened")

    def _catch_up(self, run):
        super()._catch_up(run)
        die(f"logged {len(run.records)}")
        if os.environ.get(PLACE) == f"written {len(run.records)}":
            time.sleep(FLUSHED)
            die(f"written {len(run.records)}")

    def on_run_end(self, run):
        die("ending")
        super().on_run_end(run)
        die("ended")

    def close(self):
        super().close()
        die("finished")


def die(place):
    """Kill W&B's service, which would write what it has, and then this process."""
    if os.environ.get(PLACE) == place:
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
        for child in children.split():
            os.kill(int(child), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def main():
    sys.path.insert(0, str(ROOT / "scripts"))
    from kills import running

    cut = sys.argv.index("--")
    folder, places, options = Path(sys.argv[1]), sys.argv[2:cut], sys.argv[cut + 1 :]
    running.adopt_orphans()
    running.preload()
    for place in (*places, ""):
        os.environ[PLACE] = place
        code = running.wait(running.fork(folder / "run", options))
        sys.stdout.write(f"{place or 'done'} {code}\n")


if __name__ == "__main__":
    main()
