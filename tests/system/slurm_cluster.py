"""A SLURM cluster of one node, started by a test, with everything it writes in one folder."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
SECONDS = 60  # whatever takes longer than this here does not come any more

# Two partitions over the same node; the jobs of `high` take the place of those of `low`.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/node
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1,preempt_youngest_first
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
MinJobAge=3600
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES PriorityTier=1 State=UP GraceTime={grace}
PartitionName=high Nodes={host} PriorityTier=2 State=UP PreemptMode=OFF
"""

# The launcher asks the accounting for the states of jobs; there is none here.
ACCOUNTING = """#!/bin/sh
echo 'JobID|State|NodeList'
scontrol --oneliner show job 2>/dev/null | sed -E \\
    -e 's/^JobId=[0-9]+ ArrayJobId=([0-9]+) ArrayTaskId=([0-9]+) /JobId=\\1_\\2 /' \\
    -e 's/^JobId=([0-9_]+) .* JobState=([A-Z_]+) .*$/\\1|\\2|/'
"""


class Cluster:
    """What a test does with the cluster, as a user would in a shell."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder, self.environment = folder, environment

    def call(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, timeout=SECONDS, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def job(self, name: str) -> dict[str, str]:
        """The facts that `scontrol show job` lists."""
        line = self.call("scontrol", "--oneliner", "show", "job", name)
        return dict(part.split("=", 1) for part in line.split() if "=" in part)


def wait_until(true, what: str, seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.1)


def started(folder: Path, grace: int = 30):
    """Yield a `Cluster`, or skip where there is none to be had."""
    if os.geteuid() != 0:
        pytest.skip("starting SLURM's daemons needs root")
    _install()
    processes: list[subprocess.Popen] = []
    environment = dict(os.environ) | {"SLURM_CONF": str(folder / "slurm.conf")}
    try:
        _start(folder, grace, environment, processes)
        yield Cluster(folder, environment)
    finally:
        if processes[1:]:
            subprocess.run(["scancel", "--user=root"], env=environment, timeout=20, check=False)
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _install() -> None:
    """Install Debian's packages where they are missing."""
    if all(map(shutil.which, PROGRAMS)):
        return
    if not shutil.which("apt-get"):
        pytest.skip("SLURM is not installed, and apt-get is not there to do it")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES]
    environment = dict(os.environ) | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], install):
        subprocess.run(command, env=environment, timeout=300, check=False, **quiet)
    if not all(map(shutil.which, PROGRAMS)):
        pytest.skip(f"apt-get install {' '.join(PACKAGES)} fails here")


def _start(folder: Path, grace: int, environment: dict[str, str], processes: list) -> None:
    def start(name: str, *arguments: str) -> None:
        with (folder / f"{name}.out").open("w") as out:
            process = subprocess.Popen([name, *arguments], env=environment, stdout=out, stderr=out)
        processes.append(process)

    for name in ("controller", "node", "bin"):
        (folder / name).mkdir()
    ports = {"controller_port": _free_port(), "node_port": _free_port()}
    host = socket.gethostname().partition(".")[0]
    settings = CONFIGURATION.format(folder=folder, host=host, grace=grace, **ports)
    (folder / "slurm.conf").write_text(settings)
    accounting = folder / "bin" / "sacct"
    accounting.write_text(ACCOUNTING)
    accounting.chmod(0o755)
    environment["PATH"] = f"{folder / 'bin'}:{environment['PATH']}"
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    files = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    places = [f"--{option}={folder}/munge.{suffix}" for option, suffix in files.items()]
    # --force: the folders above are not those of a system's service
    start("munged", "--foreground", "--force", f"--key-file={key}", *places)
    wait_until((folder / "munge.socket").exists, "munged")
    start("slurmctld", "-D", "-i")
    start("slurmd", "-D")
    state = ["timeout", "5", "sinfo", "--noheader", "--format=%T"]

    def idle() -> bool:
        assert all(process.poll() is None for process in processes), _logs(folder)
        done = subprocess.run(state, env=environment, capture_output=True, text=True, check=False)
        return set(done.stdout.split()) == {"idle"}

    wait_until(idle, "an idle node")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _logs(folder: Path) -> str:
    files = sorted([*folder.glob("*.out"), *folder.glob("*.log")])
    return "\n".join(f"{file.name}: {file.read_text()[-1000:]}" for file in files)
