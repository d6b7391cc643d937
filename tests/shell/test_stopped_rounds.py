"""Runs that a criterion ends: what they keep, and that an interrupted one ends alike."""

import json
from functools import partial
from itertools import pairwise, product

import kit
import pytest
import torch
from torch import nn
from trainer_log import TrainerLog

from dal.callbacks.agreement import PredictionAgreement, kappa
from dal.data.datamodule import ActiveDataModule
from dal.loop import PLAIN_TRAINER
from dal.models.classifier import Classifier
from dal.run_directory import RunDirectory
from dal.stopping.budget import budget
from dal.stopping.max_score import max_score
from dal.stopping.plateau import plateau
from dal.stopping.stabilisation import stabilisation
from dal.stopping.target_accuracy import target_accuracy
from dal.strategies.badge import badge
from dal.strategies.entropy import entropy

COSTS = 1 + torch.arange(240) % 7 / 4


def after(rounds):
    """Stop in a round by its number alone."""

    def enough(*, records):
        return f"{rounds} are enough" if len(records) > rounds else None

    return enough


def test_a_run_that_is_stopped_buys_nothing_more_and_says_why(module, run):
    data = module()
    records = run(data, stopping=[after(1)])
    assert [len(record["acquired"]) for record in records] == [4, 0]
    assert "stopped" not in records[0]
    last = records[-1]
    assert last["stopped"] == "enough: 1 are enough"
    assert (last["acquired"], last["acquired_labels"], last["scores"]) == ([], [], None)
    assert last["test/accuracy"] > 0
    assert data.n_labelled == 10


def test_until_it_stops_a_run_is_the_one_without_criteria(run):
    whole, stopped = run(), run(stopping=[after(2)])
    assert kit.timeless(stopped[:2]) == kit.timeless(whole[:2])
    assert stopped[2]["test/nll"] == whole[2]["test/nll"]


def test_where_rounds_run_out_first_nothing_is_said(run):
    records = run(rounds=1, stopping=[after(1)])
    assert [record.get("stopped") for record in records] == [None, None]


def test_a_stopped_run_is_complete(module, run, tmp_path):
    records = run(directory=tmp_path, stopping=[after(1)])
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.json*")}
    data = module()
    again = run(
        data, directory=tmp_path, stopping=[after(1)], logs=[kit.KillAt("on_train_start", 0)]
    )
    assert kit.timeless(again) == kit.timeless(records)
    assert data.n_labelled == 10
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.json*")} == before


def test_a_budget_in_labels_counts_start_and_validation_and_cuts_the_last_query(module, run):
    records = run(module(val_size=5), rounds=9, stopping=[partial(budget, limit=17)])
    assert [record["labels_used"] for record in records] == [11, 15, 17]
    assert [len(record["acquired"]) for record in records] == [4, 2, 0]
    assert [len(record["scores"] or ()) for record in records] == [4, 2, 0]
    assert records[-1]["stopped"] == "budget: 17 of 17 is used and the next label costs 1"


def test_a_cut_query_is_the_beginning_of_the_whole_one(run):
    whole, cut = run(), run(stopping=[partial(budget, limit=9)])
    assert cut[0]["acquired"] == whole[0]["acquired"][:3]
    assert cut[0]["acquired_labels"] == whole[0]["acquired_labels"][:3]
    assert cut[0]["scores"] == whole[0]["scores"][:3]


def test_a_budget_in_costs_is_never_exceeded(module, run):
    data = module(val_size=5, costs=COSTS)
    records = run(data, rounds=20, stopping=[partial(budget, limit=40)])
    paid = [*data.pool.held_out.tolist(), *data.pool.labelled.tolist()]
    assert records[-1]["cost_used"] == pytest.approx(float(COSTS[paid].sum()), abs=1e-12)
    assert 38 < records[-1]["cost_used"] <= 40
    for record, later in pairwise(records):
        assert record["acquired_costs"] == COSTS[record["acquired"]].tolist()
        spent = record["cost_used"] + sum(record["acquired_costs"])
        assert later["cost_used"] == pytest.approx(spent, abs=1e-12)
    assert records[-1]["acquired_costs"] == []


def test_without_costs_a_record_has_none(run):
    assert not {"acquired_costs", "cost_used", "prediction_agreement"} & run(rounds=0)[0].keys()


def test_the_accuracy_that_counts_is_that_of_the_validation_rows(module, run):
    data = module(val_size=30)
    first, *_ = run(data, rounds=0)
    assert first["val/accuracy"] != first["test/accuracy"]
    target = partial(target_accuracy, accuracy=first["val/accuracy"])
    records = run(module(val_size=30), stopping=[target])
    assert len(records) == 1
    assert records[0]["stopped"].startswith("target_accuracy: val/accuracy")


def test_a_plateau_ends_a_run(module, run):
    records = run(module(val_size=30), rounds=9, stopping=[partial(plateau, min_delta=1.0)])
    assert len(records) == 4
    assert records[-1]["stopped"].startswith("plateau: ")


def test_a_score_below_the_threshold_ends_a_run(run):
    records = run(strategy=entropy, stopping=[partial(max_score, threshold=2.0)])  # ln 3 = 1.1
    assert len(records) == 1
    records = run(strategy=entropy, stopping=[partial(max_score, threshold=0.0)])
    assert len(records) == 4


class Kept(TrainerLog):
    """Keeps the classes that each round's model gives the stop set."""

    def __init__(self, data):
        self.data, self.classes = data, []

    def on_test_end(self, trainer, pl_module):
        pl_module.eval()
        with torch.no_grad():
            batches = [pl_module(inputs).argmax(1) for inputs in self.data.stop_dataloader()]
        self.classes.append(torch.cat(batches))


def test_the_agreement_is_that_of_what_successive_models_say(module, run):
    data = module(stop_set_size=100)
    kept = Kept(data)
    records = run(data, stopping=[stabilisation], logs=[kept])
    assert [len(classes) for classes in kept.classes] == [100] * 4
    expected = [kappa(*pair, 3) for pair in pairwise(kept.classes)]
    assert [record["prediction_agreement"] for record in records] == [None, *expected]
    assert len(set(expected)) > 1
    assert all(0 < value < 1 for value in expected)


def test_to_watch_predictions_changes_nothing_else(run):
    watched = kit.timeless(run(stopping=[partial(stabilisation, kappa=1.0)]))
    for record in watched:
        del record["prediction_agreement"]
    assert watched == kit.timeless(run())


def test_stable_predictions_end_a_run(run):
    stable = partial(stabilisation, kappa=0.0, windows=2)
    records = run(stopping=[stable])
    assert len(records) == 3
    assert records[-1]["stopped"].startswith("stabilisation: the mean kappa of the last 2 rounds")


def test_a_module_that_is_compared_is_left_as_it_was(toy):
    data, module, other = toy(), kit.toy_module(), kit.toy_module()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    look = PredictionAgreement(data, other.state_dict())
    look.on_test_end(PLAIN_TRAINER(accelerator="cpu", max_epochs=1), module)
    assert -1 <= look.kappa < 1
    assert module.training
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())


class Tied(nn.Module):
    """A network whose first layer has its weights twice, under two names."""

    def __init__(self):
        super().__init__()
        self.first, self.again, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.again.weight = self.first.weight

    def forward(self, inputs):
        return self.last(self.again(self.first(inputs).relu()))


def test_models_are_compared_whose_weights_have_two_names(toy):
    data, module, other = toy(), Classifier(Tied(), 3), Classifier(Tied(), 3)
    look = PredictionAgreement(data, {n: v.clone() for n, v in other.state_dict().items()})
    look.on_test_end(PLAIN_TRAINER(accelerator="cpu", max_epochs=1), module)
    with torch.no_grad():
        inputs = torch.cat([*data.stop_dataloader()])
        assert look.kappa == kappa(module(inputs).argmax(1), other(inputs).argmax(1), 3)


def test_the_stop_set_is_the_same_in_every_round_and_was_in_the_first_pool():
    data = ActiveDataModule(kit.index_data(), initial_size=2, val_size=4, stop_set_size=9)
    rows = torch.cat([inputs[:, 0] for inputs in data.stop_dataloader()]).long().tolist()
    assert len(set(rows)) == 9
    assert not {*data.pool.labelled.tolist(), *data.pool.held_out.tolist()} & {*rows}
    data.label(rows[:3])
    data.data.train.read.clear()
    assert torch.cat([*data.stop_dataloader()])[:, 0].long().tolist() == rows
    assert data.data.train.read == rows
    whole = ActiveDataModule(kit.index_data(), initial_size=2, val_size=4)
    assert sum(map(len, whole.stop_dataloader())) == 24


KILLS = [*product(["on_train_start", "on_test_end", "on_round_end"], [1, 2])]
STOPS = {
    "budget": [partial(budget, limit=25), stabilisation],
    "stabilisation": [partial(stabilisation, kappa=0.0, windows=2)],
}


@pytest.mark.parametrize("stopping", STOPS.values(), ids=STOPS)
@pytest.mark.parametrize("kill", KILLS)
def test_a_run_killed_around_its_stop_ends_like_one_that_was_not(
    module, run, tmp_path, stopping, kill
):
    options = {"stopping": stopping, "strategy": badge, "rounds": 9}
    make = partial(module, val_size=4, costs=COSTS)
    data = make()
    wanted = run(data, **options)
    assert "stopped" in wanted[2]
    with pytest.raises(kit.KilledError):
        run(make(), directory=tmp_path, logs=[kit.KillAt(*kill)], **options)
    later = make()
    assert kit.timeless(run(later, directory=tmp_path, **options)) == kit.timeless(wanted)
    assert later.state_dict() == data.state_dict()


def test_a_cut_purchase_that_was_paid_for_is_kept(module, run, tmp_path, monkeypatch):
    options = {"stopping": [partial(budget, limit=9)], "directory": tmp_path}
    wanted = run(stopping=options["stopping"])

    def die(*_):
        raise kit.KilledError

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "commit", die)
        with pytest.raises(kit.KilledError):
            run(**options)
    paid = json.loads((tmp_path / "state/round-0000/paid.json").read_text())
    assert paid["acquired"] == wanted[0]["acquired"]
    assert len(paid["acquired"]) == len(paid["scores"]) == 3
    data = module()
    assert kit.timeless(run(data, **options)) == kit.timeless(wanted)
    assert data.n_labelled == 9


@pytest.mark.parametrize(
    "change",
    [{"stopped": 1}, {"acquired_costs": [1.0]}, {"acquired_costs": "1"}, {"cost_used": "1"}],
    ids=str,
)
def test_a_damaged_record_of_a_stop_is_refused(module, run, tmp_path, change):
    options = {"stopping": [after(1)], "directory": tmp_path}
    run(module(costs=COSTS), **options)
    file = tmp_path / "rounds.jsonl"
    *lines, last = file.read_text().splitlines()
    file.write_text("\n".join([*lines, json.dumps(json.loads(last) | change), ""]))
    with pytest.raises(ValueError, match=r"rounds\.jsonl is damaged in line 2"):
        run(module(costs=COSTS), **options)


def test_a_run_is_not_continued_with_other_costs(module, run, tmp_path):
    with pytest.raises(kit.KilledError):
        run(module(costs=COSTS), directory=tmp_path, logs=[kit.KillAt("on_train_start", 1)])
    with pytest.raises(ValueError, match=r"the data set changed .* other costs"):
        run(module(costs=COSTS + 1), directory=tmp_path)


@pytest.mark.parametrize(
    ("stopping", "match"),
    [
        ([partial(target_accuracy, accuracy=0.5)], "set val_size higher"),
        ([lambda *, odd: None], "needs odd"),
    ],
)
def test_a_criterion_that_cannot_work_is_refused_before_any_work(run, tmp_path, stopping, match):
    with pytest.raises(ValueError, match=match):
        run(directory=tmp_path / "run", stopping=stopping, model=lambda: 1 / 0)
    assert not (tmp_path / "run").exists()
