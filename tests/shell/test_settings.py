"""Annotations say which settings are right; others are told by name, in a call and before it."""

import math
import numbers
import pickle
import pkgutil
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import kit
import pytest
import torch
from torch import Tensor, nn

from dal.configuration import faults_of_experiment, faults_of_node
from dal.configuration_trials import faults_of_trials
from dal.data.datamodule import ActiveDataModule
from dal.settings import (
    Count,
    Inside,
    NotNegative,
    Number,
    Positive,
    SettingsError,
    Share,
    checked,
    fault,
    faults_of,
    unknown,
)

NODE = {"_target_": "torch.nn.Linear"}
RIGHT = [
    (int, [0, -3, 10**20]),
    (float, [0, 1.5, -math.inf]),
    (bool, [True, False]),
    (str, ["", "x"]),
    (str | Path, ["data"]),
    (Literal["a", 1], ["a", 1]),
    (int | None, [None, 3]),
    (Sequence[int], [[], [1, 2]]),
    (tuple[float, ...], [[1, 0.5]]),
    (Collection[int], [[], [1, 2]]),
    (set[int], [[1]]),
    (numbers.Real, [1, 0.5]),
    (Mapping[str, float], [{}, {"a": 0.5}]),
    (Literal["random"] | Sequence[int], ["random", [1]]),
    (Count, [1, 7]),
    (Number, [0]),
    (Positive | None, [None, 1e-9]),
    (NotNegative, [0, 3.5]),
    (Share, [0, 1, 0.5]),
    (Inside, [0.5]),
    (Any, [None, 3, "x", [1]]),
    (nn.Module, [NODE]),
    (Callable[..., nn.Module], [NODE]),
    (float | Tensor, [0.1, NODE]),
    (Annotated[int, "a note"], [3]),
]
WRONG = [
    (int, [True, 1.0, "3", None, [1], math.nan], "x must be a whole number, got "),
    (float, [True, "0.5", None, math.nan], "x must be a number, got "),
    (bool, [0, 1, "yes", None], "x must be true or false, got "),
    (str, [None, ["a"]], "x must be text, got "),
    (str | Path | None, [["a"]], "x must be text or null, got "),
    (Literal["a", "b"], ["c", None, 0], "x must be a or b, got "),
    (Literal[1], [True, 1.0], "x must be 1, got "),
    (Sequence[int], [1, "ab", [1.5], [True], ["a"], [[1]]], "x must be a list of whole numbers, "),
    (Collection[int], [1, [0.5]], "x must be a list of whole numbers, got "),
    (numbers.Real, ["a", True, [1]], "x must be a number, got "),
    (Mapping[str, float], [[0.5], {"a": "b"}, 0.5], "x must be values by name, got "),
    (Literal["random"] | Sequence[int], ["other", [1.5]], "x must be random or a list of whole "),
    (Count, [0, -1, 1.0, True, None, "3"], "x must be a whole number of at least 1, got "),
    (Number | None, [-1, 0.5], "x must be a whole number of at least 0, got "),
    (Positive, [0, -1, math.nan, math.inf, None], "x must be a finite number above 0, got "),
    (NotNegative, [-1e-9, math.inf, "a"], "x must be a finite number of at least 0, got "),
    (Share, [-0.1, 1.1, math.nan], "x must lie between 0 and 1, got "),
    (Inside, [0, 1, 1.0], "x must lie between 0 and 1, neither of them, got "),
    (nn.Module, [3, "net", [NODE]], "x must be a Module under _target_, got "),
    (float | Tensor, ["a"], "x must be a number, got "),
]


def pairs(cases):
    return [(case[0], value, *case[2:]) for case in cases for value in case[1]]


def network(input_shape, num_classes, width: Count = 3, *, flag: bool = False):
    """A target with two arguments that come from elsewhere."""


def any_network(depth=1, **others):
    """A target that takes any keyword."""


@pytest.mark.parametrize(("hint", "value"), pairs(RIGHT))
def test_a_value_of_the_annotated_kind_is_right(hint, value):
    assert fault("x", value, hint) == []


@pytest.mark.parametrize(("hint", "value", "said"), pairs(WRONG))
def test_a_value_of_another_kind_is_told_with_what_was_wanted_and_what_came(hint, value, said):
    (line,) = fault("x", value, hint)
    assert line.startswith(said)
    assert line.endswith("null" if value is None and "got null" in line else repr(value))


def test_text_that_looks_like_a_number_is_told_how_to_be_given():
    assert fault("name", 7, str) == ["name must be text, got 7; quote it twice: name='\"7\"'"]


def test_a_value_that_is_missing_is_told_as_such():
    assert fault("dataset.path", "???", str) == ["dataset.path has no value; add dataset.path=..."]


def test_a_checked_function_refuses_before_it_does_anything():
    done = []

    @checked
    def act(times: Count, share: Share | None = None) -> None:
        done.append((times, share))

    act(1)
    act(times=2, share=0.5)
    for wrong in ({"times": 0}, {"times": 1, "share": 2}):
        with pytest.raises(ValueError, match="must"):
            act(**wrong)
    assert done == [(1, None), (2, 0.5)]


def test_all_faults_of_a_call_are_told():
    given = ("input_shape", "num_classes")
    settings = {"num_classes": 3, "widht": 4, "flag": "yes"}
    assert faults_of("model", network, settings, given) == [
        "model.num_classes cannot be set: the run gives it",
        "model.widht is unknown; did you mean model.width?",
        "model.flag must be true or false, got 'yes'",
    ]
    assert faults_of("model", network, {}, ["num_classes"]) == [
        "model.input_shape has no value; add +model.input_shape=..."
    ]
    assert faults_of("model", network, {}, whole=False) == []


def test_a_function_without_annotations_is_checked_for_names_alone():
    def own(*, features, power=2.0):
        pass

    assert faults_of("strategy", own, {"power": "any"}, ["features"]) == []
    assert faults_of("strategy", own, {"powr": 1}, ["features"]) == [
        "strategy.powr is unknown; did you mean strategy.power?"
    ]
    assert faults_of("strategy", dict, {"anything": 1}) == []


def test_an_annotation_that_cannot_be_read_is_none():
    def own(width: "NoSuchName" = 1):  # noqa: F821
        pass

    assert faults_of("model", own, {"width": "any"}) == []


def test_a_callable_need_not_be_hashable():
    class Own:
        __hash__ = None

        def __call__(self, width: int = 1):
            pass

    assert faults_of("model", Own(), {"widht": 2}) == [
        "model.widht is unknown; did you mean model.width?"
    ]


def test_an_annotation_need_not_be_hashable():
    def own(width: [int] = 1):
        pass

    assert faults_of("model", own, {"width": 2}) == []


def test_an_argument_takes_its_own_default_whatever_its_annotation():
    def own(width: int = None, mode: float = "auto"):  # noqa: RUF013
        pass

    assert faults_of("model", own, {"width": None, "mode": "auto"}) == []
    assert faults_of("model", own, {"width": "auto"}) == [
        "model.width must be a whole number, got 'auto'"
    ]


def test_a_keyword_that_the_run_does_not_pass_may_be_set():
    node = {"_target_": f"{__name__}.any_network", "_partial_": True, "num_classes": 10}
    assert faults_of_node("model", node, ("input_shape", "num_classes")) == []
    node["_target_"] = f"{__name__}.network"
    assert faults_of_node("model", node, ("input_shape", "num_classes")) == [
        "model.num_classes cannot be set: the run gives it"
    ]


def test_a_name_without_a_near_one_is_told_those_that_there_are():
    assert unknown("optim", ["seed", "rounds"]) == "optim is unknown; there are: rounds, seed"
    assert unknown("zzz", ["seed", "rounds"], "") == "zzz is unknown; there are: rounds, seed"


def test_nodes_inside_nodes_are_checked():
    inner = {"_target_": "dal.features.encoders.small_resnet", "_partial_": True, "width": 0}
    node = {"_target_": "dal.features.self_supervised.self_supervised", "_partial_": True}
    node |= {"cache_dir": "cache", "encoder": inner, "crop": 0}
    assert faults_of_node("features", node, 1) == [
        "features.crop must be a finite number above 0, got 0",
        "features.encoder.width must be a whole number of at least 1, got 0",
    ]


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ("adam", "optimizer must name under _target_ what to build, got 'adam'"),
        ({"lr": 1}, "optimizer must name under _target_"),
        ({"_target_": "torch.optim.Adm"}, "did you mean torch.optim.Adam?"),
        ({"_target_": "no.such.module"}, "cannot be imported: ModuleNotFoundError"),
        ({"_target_": ""}, "cannot be imported"),
        ({"_target_": 3}, "cannot be imported"),
        ({"_target_": "torch.pi"}, "must be a function or a class"),
        ({"_target_": "torch.optim.Adam"}, "needs _partial_: true, as the run gives it params"),
    ],
)
def test_a_node_that_names_nothing_to_build_is_told(node, said):
    (line,) = faults_of_node("optimizer", node, 1)
    assert said in line


def test_a_trial_tells_each_setting_that_its_own_code_refuses():
    def build(node):
        return partial(torch.optim.Adam, **{k: v for k, v in node.items() if k[0] != "_"})

    node = {"_target_": "torch.optim.Adam", "lr": -1, "eps": -2, "weight_decay": 0.0}
    assert faults_of_trials({"optimizer": node}, build) == [
        "optimizer.eps: Invalid epsilon value: -2",
        "optimizer.lr: Invalid learning rate: -1",
    ]


def made_of(node):
    settings = {key: value for key, value in node.items() if key[0] != "_"}
    return partial(pkgutil.resolve_name(node["_target_"]), **settings)


def test_a_setting_that_is_right_beside_the_others_is_not_told():
    node = {"_target_": "torch.optim.SGD", "lr": -1, "nesterov": True, "momentum": 0.9}
    assert faults_of_trials({"optimizer": node}, made_of) == [
        "optimizer.lr: Invalid learning rate: -1"
    ]


def test_settings_are_tried_beside_those_that_must_be_given():
    nodes = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}
    nodes["scheduler"] = {"_target_": "torch.optim.lr_scheduler.CyclicLR", "base_lr": 0.1}
    nodes["scheduler"] |= {"max_lr": 1.0, "cycle_momentum": False, "mode": "none"}
    (line,) = faults_of_trials(nodes, made_of)
    assert line.startswith("scheduler.mode is invalid")


def matrices(parameters, rate):
    """An own optimiser, for the weights with two dimensions, whose rate is a tensor."""
    return torch.optim.Adam([p for p in parameters if p.ndim == 2], lr=torch.tensor(rate))


def test_an_own_optimiser_may_want_matrices_and_a_rate_that_is_a_tensor():
    node = {"_target_": f"{__name__}.matrices", "rate": 0.1}
    assert faults_of_trials({"optimizer": node}, made_of) == []
    (line,) = faults_of_trials({"optimizer": node | {"rate": -0.0}}, made_of)
    assert "lr must be a finite number above 0" in line


def in_lightning_words(optimizer):
    """A scheduler as Lightning takes it in a dictionary."""
    return {"scheduler": torch.optim.lr_scheduler.LinearLR(optimizer)}


@pytest.mark.parametrize(
    "target", ["torch.optim.lr_scheduler.ReduceLROnPlateau", f"{__name__}.in_lightning_words"]
)
def test_a_scheduler_that_cannot_be_stepped_alone_is_refused(target):
    nodes = {"optimizer": {"_target_": "torch.optim.Adam"}, "scheduler": {"_target_": target}}
    (line,) = faults_of_trials(nodes, made_of)
    assert line.startswith("scheduler must be an LRScheduler that looks at no metric")
    nodes["scheduler"] = {"_target_": "torch.optim.lr_scheduler.LinearLR"}
    assert faults_of_trials(nodes, made_of) == []


def test_a_trainer_that_leaves_no_test_batches_is_refused():
    node = {"_target_": "lightning.pytorch.Trainer", "accelerator": "cpu", "logger": False}
    assert faults_of_trials({"trainer": node}, made_of) == []
    assert faults_of_trials({"trainer": node | {"limit_test_batches": 0}}, made_of) == [
        "trainer.limit_test_batches must leave test batches, got 0"
    ]


def weighted(probs, weights):
    """An own score, of ten classes."""
    return probs @ torch.tensor(weights)


def by_ratio(n, n_labelled, labels, strategies, generator):
    """An own strategy that combines others, for a set of labels."""
    return [*strategies.values()][labels.argmin() % 10 // n_labelled](torch.arange(6), n)


def test_own_strategies_are_left_to_the_rehearsal_with_the_true_data():
    node = {"_target_": f"{__name__}.weighted", "weights": [1.0] * 10}
    assert faults_of_trials({"strategy": node}, made_of) == []
    assert faults_of_trials({"score": node, "strategy": node}, made_of) == []
    parts = {"first": made_of(node)}
    node = {"_target_": f"{__name__}.by_ratio", "strategies": parts}
    assert faults_of_trials({"strategy": node}, made_of) == []


def test_no_posterior_gives_one_sample():
    node = {"_target_": "dal.strategies.bald.bald", "_partial_": True}
    faults = faults_of_experiment({"strategy": node, "posterior": None}, made_by_hydra)
    assert any(line.startswith("strategy: ") and "2" in line for line in faults)
    posterior = {"_target_": "no.such.posterior"}
    faults = faults_of_experiment({"strategy": node, "posterior": posterior}, made_by_hydra)
    assert not any(line.startswith("strategy: ") for line in faults)


def made_by_hydra(node):
    made = made_of(node)
    return made if node.get("_partial_") else made()


def test_a_trial_leaves_the_global_generator_alone():
    before = torch.get_rng_state()

    def build(node):
        return lambda parameters: torch.optim.SGD(parameters, lr=float(torch.rand(())))

    assert faults_of_trials({"optimizer": {"_target_": "own"}}, build) == []
    assert torch.equal(torch.get_rng_state(), before)


def test_a_configuration_of_nothing_is_told_all_that_it_lacks():
    faults = faults_of_experiment({}, lambda node: SimpleNamespace(samples=1, draw=print))
    assert "rounds has no value; add +rounds=..." in faults
    assert "checkpoint has no value; add +checkpoint=..." in faults
    assert "logger has no value; name one by logger=..., without ~logger" in faults
    assert not any(line.startswith(("score", "scheduler", "posterior")) for line in faults)


def test_the_data_module_says_its_ranges_in_a_call_too():
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, got 0"):
        ActiveDataModule(kit.index_data(), batch_size=0)


def test_several_faults_are_one_error_of_a_line_each():
    assert str(SettingsError(["a is\nwrong"])) == "a is wrong"
    error = pickle.loads(pickle.dumps(SettingsError(["a", "b"])))
    assert str(error) == "2 settings are wrong\n  a\n  b"
