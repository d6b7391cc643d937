"""A report of run directories: its files, what it says, and what it leaves out."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from run_folders import finished, sweep, write

from dal.analysis.report import write_report
from dal.analysis.runs import read_runs

CURVES = {"random": [0.5, 0.6, 0.7], "bald": [0.5, 0.75, 0.9], "margin": [0.5, 0.6, 0.7]}
FIGURES = {
    "learning_curves", "learning_curves_log", "aubc", "differences", "budgets", "labels_to_target",
    "time", "overlap", "balance", "classes_per_query", "novelty",
}  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    sweep(root, CURVES)
    sweep(root, CURVES, setting="default/mnist-cnn", seeds=2)
    write(root / "default/digits-cnn/<b>$x$/seed=0", finished(0.5, 0.1, 0.1)[:2])
    out = root / "report"
    (out / "figures/old").mkdir(parents=True)
    (out / "figures/old/aubc.png").write_bytes(b"old")
    (out / "mine.txt").write_text("kept")
    (out / "figures/mine.pdf").write_bytes(b"kept")
    (out / "tables").mkdir()
    (out / "tables/mine.csv").write_text("kept")
    (out / ".written").write_text("figures/old/aubc.png\nfigures/../mine.txt\nmine.txt\n\n")
    write_report(read_runs(root / "default"), out)
    return out


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data):
        self.text += data


def test_every_figure_is_there_as_png_and_pdf_and_older_ones_are_gone(out):
    for setting in ("default-digits-cnn", "default-mnist-cnn"):
        for kind, start in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
            files = {file.stem: file for file in (out / "figures" / setting).glob(f"*.{kind}")}
            assert set(files) == FIGURES
            assert all(file.read_bytes().startswith(start) for file in files.values())
    over_all = {f"{n}.{k}" for n in ("pairwise_penalty", "critical_difference")
                for k in ("png", "pdf")}  # fmt: skip
    files = {file.name for file in (out / "figures").iterdir() if file.is_file()}
    assert files == {*over_all, "mine.pdf"}
    assert not (out / "figures/old").exists()
    assert (out / "mine.txt").read_text() == (out / "tables/mine.csv").read_text() == "kept"
    assert not list(out.rglob("*.partial"))


def test_the_summary_has_a_row_per_data_set_model_and_strategy(out):
    summary = pd.read_csv(out / "summary.csv")
    assert len(summary) == 6
    wanted = {"experiment", "dataset", "model", "strategy", "n_seeds", "aubc_mean", "aubc_sd"}
    assert wanted | {"p_holm"} <= set(summary)
    bald = summary[(summary["dataset"] == "digits") & (summary["strategy"] == "bald")].iloc[0]
    assert bald["n_seeds"] == 5
    assert bald["p_holm"] < 0.05
    assert {file.stem for file in (out / "tables").glob("*.csv")} == {
        "curves", "labels_to_target", "pairwise_penalty", "timings", "overlap", "class_balance",
        "error_ratios", "wilcoxon",
        "problems", "mine",
    }  # fmt: skip


def test_the_page_needs_nothing_but_itself(out):
    page = Page((out / "index.html").read_text())
    assert "script" not in page.tags
    assert page.tags.count("svg") == 2 * len(FIGURES) + 2
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert "@import" not in page.text
    assert not re.findall(r"url\((?!#)", page.text)


def test_the_page_says_who_won_and_what_is_missing(out):
    text = Page((out / "index.html").read_text()).text
    assert "The difference from random is real" in text
    assert "Not told apart from random: margin" in text
    assert "Fewer than 5 paired seeds are too few" in text
    assert "<b>$x$/seed=0: unfinished" in text
    assert "no claim about bald (2), margin (2)" in text
    assert "21 of 22 runs finished" in text


def test_a_metric_that_no_round_has_is_named(out, tmp_path):
    with pytest.raises(ValueError, match="test/f1"):
        write_report(read_runs(out.parent / "default"), tmp_path, metric="test/f1")
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_without_a_finished_run_waits(tmp_path):
    write(tmp_path / "runs/e/d-m/bald/seed=0", finished(0.5, 0.6, 0.7)[:1])
    with pytest.raises(ValueError, match="none of 1 runs is finished"):
        write_report(read_runs(tmp_path / "runs"), tmp_path / "out")


@pytest.mark.parametrize("metric", ["test/nll", "test/ece", "train/loss", "train_seconds"])
def test_what_is_better_the_lower_is_refused(metric, out, tmp_path):
    with pytest.raises(ValueError, match=f"better the higher, got {metric}"):
        write_report(read_runs(out.parent / "default"), tmp_path, metric=metric)


def test_runs_that_lack_the_metric_do_not_keep_the_others_from_a_report(tmp_path):
    for strategy in ("random", "bald", "margin"):
        for seed in range(2):
            records = finished(*CURVES[strategy])
            if strategy != "margin":
                records = [one | {"val/accuracy": one["test/accuracy"]} for one in records]
            if (strategy, seed) == ("bald", 1):
                del records[1]["val/accuracy"]
            write(tmp_path / f"e/d-m/{strategy}/seed={seed}", records)
    tables = write_report(read_runs(tmp_path / "e"), tmp_path / "out", metric="val/accuracy")
    assert set(tables.summary["strategy"]) == {"random", "bald"}
    problems = pd.read_csv(tmp_path / "out/tables/problems.csv")["problem"]
    assert [*problems] == [
        "e/d-m/bald: rounds of seed 1 lack val/accuracy",
        "e/d-m/margin: no round of seed 0-1 has val/accuracy; left out",
    ]


def test_targets_that_are_written_alike_are_one_and_those_out_of_reach_are_refused(out, tmp_path):
    runs = read_runs(out.parent / "default")
    tables = write_report(runs, tmp_path, targets=[0.7, 0.70000001])
    assert [*tables.labels_to_target["target"].unique()] == [0.70000001]
    with pytest.raises(ValueError, match=r"values of test/accuracy, 0\.92\d at best, got 90"):
        write_report(runs, tmp_path, targets=[90])


def test_a_metric_that_is_no_number_is_told_from_one_that_is_not_there(tmp_path):
    for seed in range(2):
        records = [one | {"test/group_accuracy": {"a": 0.5}} for one in finished(0.1, 0.2, 0.3)]
        write(tmp_path / f"e/d-m/random/seed={seed}", records)
    with pytest.raises(ValueError, match="no round reports test/group_accuracy as a number"):
        write_report(read_runs(tmp_path / "e"), tmp_path / "out", metric="test/group_accuracy")


def test_that_labels_had_costs_is_said(tmp_path):
    for strategy in ("random", "per_cost"):
        records = [one | {"cost_used": 3.0} for one in finished(0.1, 0.2, 0.3)]
        write(tmp_path / f"e/d-m/{strategy}/seed=0", records)
    (line,) = read_runs(tmp_path / "e").problems
    assert line == "e/d-m: labels have costs; strategies are compared by their number, not by cost"


def test_rows_of_no_class_are_paid_for_and_no_run_is_lost_by_them(tmp_path):
    for strategy, labels in (("random", [[0, -1], [-1, -1]]), ("bald", [[0, 1], [2, 2]])):
        for seed in range(5):
            records = finished(*CURVES[strategy], labels=labels)
            paid = [label for bought in labels for label in bought]
            for record in records:
                record["n_no_class"] = paid[: 2 * record["round"]].count(-1)
                record["n_labelled"] -= record["n_no_class"]
            write(tmp_path / f"e/d-m/{strategy}/seed={seed}", records)
    runs = read_runs(tmp_path / "e")
    tables = write_report(runs, tmp_path / "out")
    assert runs.problems == []
    assert set(tables.summary["n_seeds"]) == {5}
    assert set(tables.curves["n_labelled"]) == {4, 6, 8}
    bought = tables.class_balance[tables.class_balance["strategy"] == "random"]
    assert list(bought["classes_per_query"]) == [1.0, 0.0]
