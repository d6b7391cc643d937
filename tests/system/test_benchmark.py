"""The benchmark at tiny sizes: what it prints and writes, what it refuses, and what it catches."""

import json
import runpy
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from cli import ROOT

sys.path.insert(0, str(ROOT / "scripts"))  # where the script finds its package

from benchmarks import agreement, names, rows, running, sequential
from benchmarks.floors import Floors, Work
from benchmarks.measuring import MEMORY, Call, Meter

from dal.strategies.coreset import coreset

SCRIPT = ROOT / "scripts" / "benchmark.py"
FLOORS = Floors(bytes=1e9, flops=1e9, logs=1e9, exps=1e9)
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # it forks on purpose


def run(*arguments, folder):
    command = [sys.executable, str(SCRIPT), *arguments, "--out", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick")
    ended = run("--quick", "--cases", "coreset,entropy,mc_dropout,power", folder=folder)
    assert ended.returncode == 0, ended.stderr
    record = json.loads((folder / "benchmark.json").read_text())
    return SimpleNamespace(out=ended.stdout, err=ended.stderr, record=record, folder=folder)


@pytest.fixture(scope="module")
def pool():
    rng = torch.Generator().manual_seed(0)
    return torch.randn(200, 4, generator=rng), torch.randn(5, 4, generator=rng)


def test_a_table_with_ratios_is_printed_and_each_row_agrees_with_its_baseline(quick):
    measured = [row for row in quick.record["rows"] if not row["stopped"]]
    assert {row["name"] for row in measured} == {"coreset", "entropy", "mc_dropout", "power"}
    compared = [row for row in measured if row["name"] != "power"]
    assert all(row["agrees"] and row["ratios"]["sequential"] > 0 for row in compared)
    assert all(row["seconds"] > 0 and row["extra_mb"] >= 0 for row in measured)
    for heading in ("x sequential", "x best peer", "x floor", "extra MB", "every selection"):
        assert heading in quick.out


def test_the_file_says_where_and_how_it_was_measured(quick):
    assert quick.record["options"]["threads"] == "1"
    assert quick.record["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert all(rate > 0 for rate in quick.record["floors"].values())
    assert quick.record["machine"]


def test_there_is_a_picture_and_a_line_of_progress_for_each_case(quick):
    assert (quick.folder / "benchmark.png").stat().st_size > 10_000
    assert f"[1/{len(quick.record['rows'])}] k-centre" in quick.err


def test_rows_for_an_accelerator_are_listed_as_not_measured(quick):
    left = [row for row in quick.record["rows"] if row["stopped"] == "not measured"]
    assert [row["name"] for row in left] == ["coreset", "mc_dropout"]
    assert quick.out.count("not measured") == 2


def test_the_accelerator_cases_run_tiny_on_a_cpu_and_say_what_is_extrapolated(tmp_path):
    ended = run("--quick", "--size", "imagenet", "--device", "cpu", folder=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    assert [row["name"] for row in found] == ["coreset", "badge", "batch_bald", "mc_dropout"]
    assert all(row["agrees"] for row in found)
    assert "1/3 of the work" in " ".join(found[0]["notes"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_accelerator_cases_run_tiny_on_an_accelerator(tmp_path):
    ended = run("--quick", "--size", "imagenet", "--device", "cuda", folder=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cases", "badge,corset"], "got 'corset'; did you mean coreset?"),
        (["--size", "imagenet"], "--size imagenet needs --device cuda"),
        (["--threads", "0"], "--threads must be at least 1, got 0"),
        (["--size", "huge"], "invalid choice: 'huge'"),
        pytest.param(
            ["--device", "cuda"],
            "--device cuda needs a CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_run_is_refused_in_one_line(arguments, said, tmp_path):
    ended = run(*arguments, folder=tmp_path / "none")
    assert ended.returncode != 0
    assert said in ended.stderr.strip().splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_a_wrong_answer_is_named_and_ends_with_an_error(tmp_path, monkeypatch, capsys):
    def first(*, features, labelled_features, n):
        return torch.arange(n)

    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # put back afterwards, as the script sets it
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setattr("benchmarks.cases.coreset", first)
    arguments = ["--quick", "--cases", "coreset", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert stop.value.code == 1
    assert "wrong: k-centre" in capsys.readouterr().out


def test_every_selection_has_a_row_unasked():
    options = SimpleNamespace(cases=[], device="cpu", quick=True, size="default")
    listed = {plan.name for plan in running.plans(options)[1]}
    scores = {"bald", "cal", "entropy", "epig", "margin", "mean_std"}
    assert listed | scores <= set(names.strategies())
    assert not listed & scores
    assert {"badge", "coreset", "power_bald", "tcm", "epsilon", "batch_bald"} <= listed


def test_a_call_that_takes_too_long_is_stopped():
    def forever(_state, _seed):
        while True:
            time.sleep(0)

    assert Meter("cpu", 1).measure(Call(forever), 1, limit=1).stopped == "> 1 s"


def test_the_error_of_a_call_is_told_and_too_much_memory_is_refused():
    def fails(_state, _seed):
        raise KeyError("no such thing")

    def takes(_state, _seed):
        return torch.empty(2 * MEMORY, dtype=torch.uint8)

    assert Meter("cpu", 1).measure(Call(fails), 1).stopped == "KeyError: 'no such thing'"
    assert Meter("cpu", 1).measure(Call(takes), 1).stopped == "> 8 GiB"


def test_peak_memory_counts_what_was_freed_before_the_end():
    def peaks(_state, _seed):
        return torch.ones(32 * 2**20, dtype=torch.uint8).amax()

    extra = Meter("cpu", 1, window=0).measure(Call(peaks), 1).extra_mb
    assert 31 < extra < 48


def test_a_peer_that_was_stopped_gives_a_lower_bound_and_goals_are_judged():
    def slow(_state, _seed):
        start = time.process_time()
        while time.process_time() - start < 30:
            pass

    def fast(_state, _seed):
        return sum(range(20_000))

    case = rows.Case(
        ours=Call(fast),
        goals=rows.Goals(sequential=1e6, peer=10, floor=1e-6),
        sequential=Call(lambda *_: [fast(None, 0) for _ in range(10)]),
        peers={"other": Call(slow)},
        work=Work("nothing much", flops=1),
        agree=lambda *_: agreement.Agreement("same", holds=True),
    )
    plan = rows.Plan("it", "it", "none", lambda: case)
    row = rows.measure_row(plan, Meter("cpu", 1), FLOORS, least_limit=1)
    assert row.at_least
    assert row.best_peer == "other"
    assert row.peers["other"]["stopped"] == "> 1 s"
    assert row.met == {"sequential": False, "peer": True, "floor": False}
    assert 5 < row.ratios["sequential"] < 20


def test_picks_that_are_not_the_farthest_are_noticed(pool):
    features, labelled = pool
    theirs = sequential.k_center(features, labelled, 20).numpy()
    ours = coreset(features=features, labelled_features=labelled, n=20).numpy()
    assert agreement.farthest_each(ours, theirs, features, labelled).holds
    swapped = ours.copy()
    swapped[[3, 4]] = swapped[[4, 3]]
    assert not agreement.farthest_each(swapped, theirs, features, labelled).holds


def test_draws_of_another_law_are_noticed(pool):
    features, ones = pool[0].clone(), torch.ones(200, 1)
    features[:20] += 10 * torch.arange(20.0).unsqueeze(
        1
    )  # far from all others, and found by k-means++

    def draws(seeds):
        found = [torch.Generator().manual_seed(seed) for seed in seeds]
        return [sequential.kmeans_plus_plus(ones, features, 30, rng).numpy() for rng in found]

    assert agreement.law(draws(range(8)), draws(range(8, 10)), ones, features).holds
    uniform = [torch.randperm(200, generator=torch.Generator().manual_seed(s))[:30] for s in (1, 2)]
    alike = [chosen.numpy() for chosen in uniform]
    assert not agreement.law(alike * 4, draws(range(8)), ones, features).holds


def test_a_smaller_cover_is_noticed(pool):
    features = pool[0]
    theirs = torch.cdist(features, features).lt(1).sum(1).argsort(descending=True)[:3].numpy()
    worse = torch.cdist(features, features).sum(1).argsort(descending=True)[:3].numpy()
    assert agreement.covers(theirs, theirs, features, 1.0).holds
    assert not agreement.covers(worse, theirs, features, 1.0).holds


def test_the_full_evaluation_of_batch_bald_sums_over_all_label_configurations():
    probs = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0)).softmax(2).double()
    chosen = sequential.batch_bald(probs.log(), 3, torch.Generator(), 1_000).tolist()

    def information(items):
        joint = torch.ones(1, 4, dtype=torch.float64)
        for item in items:
            joint = (joint.unsqueeze(1) * probs[item].T).flatten(0, 1)
        law = joint.mean(1)
        own = torch.special.entr(probs[items]).sum(2).mean(1).sum()
        return float(torch.special.entr(law).sum() - own)

    for count in range(1, 4):
        start = chosen[: count - 1]
        gains = {item: information([*start, item]) for item in range(6) if item not in start}
        assert chosen[count - 1] == max(gains, key=gains.get)
