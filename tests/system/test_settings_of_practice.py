"""Scenarios and a noisy oracle from the command line."""

import pytest

QUICK = ["logger=csv", "rounds=1", "query_size=30", "steps=5", "model.channels=4", "model.width=8"]
PLACE = "default/digits-cnn/random/seed=0"


def test_scenarios_are_applied_in_the_order_in_which_they_are_named(train, records):
    ended = train(
        *QUICK,
        "scenario=[out_of_distribution,long_tail,corrupted]",
        "scenario.out_of_distribution.classes=[0,1]",
        "scenario.long_tail.ratio=20",
    )
    assert (ended.code, ended.err) == (0, "")
    first, last = records(PLACE)
    assert set(first["test/group_accuracy"]) == {
        "noise", "blur", "contrast", "brightness", "pixelation",
    }  # fmt: skip
    assert set(first["acquired_labels"]) <= {-1, *range(8)}
    bought = first["acquired_labels"]
    assert last["n_no_class"] == bought.count(-1) > 5
    assert bought.count(0) > bought.count(7)
    assert last["labels_used"] == last["n_labelled"] + last["n_no_class"] == 50
    again = train(*QUICK, "scenario=[long_tail,corrupted]")
    assert "another configuration" in again.err


def test_an_oracle_errs_by_config_and_says_the_same_in_a_run_that_is_continued(train, records):
    noisy = [*QUICK, "oracle=noisy", "oracle.rate=1.0", "oracle.noise=pair"]
    assert train(*noisy).code == 0
    wrong = records(PLACE)[0]
    assert train(*QUICK, "name=right").code == 0
    right = records(f"right/{PLACE.partition('/')[2]}")[0]
    assert wrong["acquired"] == right["acquired"]
    assert wrong["acquired_labels"] == [(label + 1) % 10 for label in right["acquired_labels"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scenario=nothing"], "scenario=nothing is unknown; there are: corrupted, long_tail"),
        (["scenario=long_tail", "scenario.long_tail.ratio=0.5"], "ratio must be at least 1"),
        (["scenario=long_tail", "scenario.long_tail.ratios=5"], "did you mean"),
        (["scenario=missing_class", "scenario.missing_class.classes=[10]"], "classes must be"),
        (["scenario=corrupted", "scenario.corrupted.severity=6"], "severity must be"),
        (["scenario=corrupted", "scenario.corrupted.corruptions=[fog]"], "corruptions must be"),
        (["oracle=noisy", "oracle.rate=2"], "rate must lie between 0 and 1, got 2"),
        (["+scenario.mine=3"], "scenario.mine must name under _target_"),
    ],
)
def test_settings_that_mean_nothing_end_with_one_line(train, folder, arguments, said):
    ended = train(*QUICK, *arguments)
    assert ended.code == 1
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert not list(folder.rglob("rounds.jsonl"))
