"""Curves from records that were written out."""

import pytest

from dal.analysis.curves import Point, curve, plot_curves

PNG = b"\x89PNG\r\n\x1a\n"


def record(round, n_labelled, accuracy, **more):
    return {"round": round, "n_labelled": n_labelled, "test/accuracy": accuracy, **more}


FIRST = [record(0, 10, 0.5), record(1, 20, 0.7)]
SECOND = [record(0, 10, 0.6), record(1, 20, 0.9), record(2, 30, 1.0)]


def test_a_curve_is_mean_and_spread_over_the_seeds_at_each_budget():
    points = curve({"seed=0": FIRST, "seed=1": SECOND})
    assert [(p.labels, p.seeds) for p in points] == [(10, 2), (20, 2), (30, 1)]
    assert [p.mean for p in points] == pytest.approx([0.55, 0.8, 1.0])
    half = 0.5**0.5  # the sample deviation of two values is their distance / sqrt 2
    assert [p.sd for p in points] == pytest.approx([0.1 * half, 0.2 * half, 0.0])


def test_a_curve_is_in_the_order_of_the_budget():
    points = curve({"run": [record(0, 30, 0.3), record(1, 5, 0.1), record(2, 10, 0.2)]})
    assert [p.labels for p in points] == [5, 10, 30]


def test_rows_of_no_class_are_labels_too_so_that_rounds_are_apart():
    points = curve({"run": [record(0, 10, 0.5, n_no_class=0), record(1, 10, 0.7, n_no_class=4)]})
    assert [(p.labels, p.mean, p.seeds) for p in points] == [(10, 0.5, 1), (14, 0.7, 1)]


def test_a_curve_may_be_of_another_metric_and_skips_rounds_without_it():
    runs = {
        "run": [record(0, 10, 0.5), record(1, 20, 0.5, loss=2.0), record(2, 30, 0.5, loss=None)]
    }
    assert curve(runs, "loss") == [Point(20, 2.0, 0.0, 1)]


def test_a_metric_that_no_round_reports_is_named():
    with pytest.raises(ValueError, match="test/f1"):
        curve({"run": FIRST}, "test/f1")


def test_curves_become_a_picture_and_replace_an_older_one(tmp_path):
    file = tmp_path / "curve.png"
    file.write_bytes(b"old")
    plot_curves({"bald": curve({"a": FIRST, "b": SECOND}), "random": curve({"a": FIRST})}, file)
    assert file.read_bytes()[:8] == PNG
    assert list(tmp_path.iterdir()) == [file]


def test_a_band_is_drawn_where_there_is_spread(tmp_path):
    same, apart = {"a": FIRST, "b": FIRST}, {"a": FIRST, "b": [record(0, 10, 0.1), FIRST[1]]}
    for name, runs in (("same", same), ("apart", apart)):
        flat = [point._replace(sd=0.0) for point in curve(runs)]
        plot_curves({"x": flat}, tmp_path / f"{name}-flat.png")
        plot_curves({"x": curve(runs)}, tmp_path / f"{name}.png")
    pictures = {file.stem: file.read_bytes() for file in tmp_path.iterdir()}
    assert pictures["same"] == pictures["same-flat"]
    assert pictures["apart"] != pictures["apart-flat"]
