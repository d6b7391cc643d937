"""Signals that end a run: what runs inside closes first, and jobs of submitit are requeued."""

import os
import pickle
import signal
import threading

import lightning.pytorch as pl
import pytest
import torch

from dal.callbacks.stop_at_once import StopAtOnce
from dal.loop import PLAIN_TRAINER
from dal.quiet import quiet_lightning
from dal.signals import Stopped, stop_if_asked, stopping

LINE = "stopped by SIGTERM; the same command continues after the last finished round"


@pytest.fixture(autouse=True)
def handlers():
    """Those of before; a signal that nobody handles must not end the tests."""
    signals = (signal.SIGTERM, signal.SIGUSR2)
    before = [signal.signal(signum, lambda *_: None) for signum in signals]
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    yield
    for signum, handler in zip(signals, before, strict=True):
        signal.signal(signum, handler)


def send(signum=signal.SIGTERM, then=lambda: None):
    try:
        os.kill(os.getpid(), signum)
    finally:
        then()


def test_sigterm_is_an_exception_that_says_what_to_do_and_what_a_shell_reports():
    with pytest.raises(Stopped, match=LINE) as stopped, stopping():
        send()
    assert stopped.value.exit_code == 143
    assert not isinstance(stopped.value, Exception)
    assert str(pickle.loads(pickle.dumps(stopped.value))) == LINE


def test_the_handlers_of_before_are_back_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    with stopping():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(Stopped), stopping():
        send()
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_runs_after_one_that_was_stopped_is_not_stopped():
    with pytest.raises(Stopped), stopping():
        send()
    stop_if_asked()


def test_a_second_signal_does_not_disturb_the_closing():
    closed = []

    def close():
        send()
        closed.append("all")

    with pytest.raises(Stopped), stopping():
        send(then=close)
    assert closed == ["all"]


def test_an_error_that_follows_from_the_signal_is_not_what_is_reported():
    def close():
        raise ConnectionResetError("a helper process ended by the same signal")

    with pytest.raises(Stopped) as stopped, stopping():
        send(then=close)
    assert isinstance(stopped.value.__cause__, ConnectionResetError)


def test_an_error_without_a_signal_stays_what_it_is():
    with pytest.raises(ConnectionResetError), stopping():
        raise ConnectionResetError("of its own")


def test_usr2_is_left_alone_outside_of_submitit():
    with stopping():
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of a process with threads
def test_a_forked_process_ends_by_the_signal_alone():
    with stopping():
        child = os.fork()
        if not child:
            try:
                send()
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM


def test_another_thread_than_the_main_one_runs_as_without_it():
    done = []

    def work():
        with stopping():
            done.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGTERM)]


@pytest.fixture
def submitit(monkeypatch, tmp_path):
    """A job of submitit, whose handler writes what it gets into a list and exits."""
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("SUBMITIT_PREEMPT_SIGNAL", raising=False)
    requeued = []

    def requeue(signum, frame):
        requeued.append(signum)
        raise SystemExit(-1)

    signal.signal(signal.SIGUSR2, requeue)
    return requeued


@pytest.fixture
def squeue(monkeypatch, tmp_path):
    """A `squeue` that answers by a word for job 12_3 alone."""

    def answers(word):
        program = tmp_path / "squeue"
        program.write_text(f'#!/bin/sh\ncase "$*" in *=12_3\\ *) echo {word};; esac\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    for name, value in {"JOB_ID": "15", "ARRAY_JOB_ID": "12", "ARRAY_TASK_ID": "3"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    return answers


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR2])
def test_a_job_of_submitit_is_requeued_once_its_run_is_closed(submitit, signum, capfd):
    closed = []
    with pytest.raises(SystemExit), stopping():
        send(signum, then=lambda: closed.append(list(submitit)))
    assert closed == [[]]
    assert submitit == [signum]
    assert capfd.readouterr().err == LINE.replace("SIGTERM", signum.name) + "\n"


@pytest.mark.parametrize(("word", "requeues"), [("RUNNING", 1), ("COMPLETING", 0), ("", 0)])
def test_a_job_that_slurm_ends_or_requeues_by_itself_just_exits(submitit, squeue, word, requeues):
    squeue(word)
    with pytest.raises(SystemExit) as ended, stopping():
        send()
    assert len(submitit) == requeues
    assert ended.value.code == (-1 if requeues else 143)


def test_the_signal_that_submitit_was_told_to_use_is_handled(submitit, monkeypatch):
    monkeypatch.setenv("SUBMITIT_PREEMPT_SIGNAL", "USR1")
    before = signal.signal(signal.SIGUSR1, signal.getsignal(signal.SIGUSR2))
    closed = []
    try:
        with pytest.raises(SystemExit), stopping():
            send(signal.SIGUSR1, then=lambda: closed.append(list(submitit)))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert closed == [[]]
    assert submitit == [signal.SIGUSR1]


class Signalled(pl.LightningModule):
    """Gets a signal in its first training or test step."""

    def __init__(self, where):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.where, self.seen = where, None

    def training_step(self, batch, number):
        return self.step("fit", batch)

    def test_step(self, batch, number):
        self.step("test", batch)

    def step(self, where, batch):
        if where == self.where:
            self.seen = signal.getsignal(signal.SIGTERM)
            send()
        return self.layer(batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize("where", ["fit", "test"])
def test_a_signal_within_lightning_meets_our_handler_and_not_lightnings(where):
    loader = torch.utils.data.DataLoader(torch.zeros(4, 1), batch_size=1)
    module, ours = Signalled(where), []

    def work():
        ours.append(signal.getsignal(signal.SIGTERM))
        callbacks = [StopAtOnce()]
        trainer = PLAIN_TRAINER(accelerator="cpu", callbacks=callbacks, max_epochs=1)
        getattr(trainer, where)(module, loader)

    with quiet_lightning(), pytest.raises(Stopped), stopping():
        work()
    assert module.seen is ours[0]
