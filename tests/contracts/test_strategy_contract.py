"""The promises that every strategy keeps, whatever it asks for."""

import ast
import doctest
import inspect
import random
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_method, instantiate
from omegaconf import OmegaConf

import dal.strategies
from dal.acquisition_parts import asked_leaves
from dal.acquisition_signature import POOL, VOCABULARY, inputs_of, is_score, needs_of, parts_of
from dal.functional.ranking import top_n

N, M, K, C, D, J = 12, 6, 4, 3, 5, 7  # pool, labelled, samples, classes, features, targets
POOLS = ["ordinary", "certain", "disagreeing", "identical", "tiny", "unlabelled"]
SIZES = {"tiny": (1, M), "unlabelled": (N, 0)}
DTYPES = [torch.float32, torch.float64]


CONF = Path(__file__).parents[2] / "conf"


@cache
def config_of(file):
    """What the YAML composes to; one without parts may lie in a folder of any name."""
    alone = OmegaConf.load(file)
    if "defaults" not in alone:
        return alone
    with initialize_config_dir(str(CONF), version_base="1.3"):
        path = f"hydra.searchpath=[file://{file.parent.parent}]"
        return compose("config", overrides=[f"strategy={file.stem}", path]).strategy


def strategy_of(file):
    return instantiate(config_of(file), _convert_="all")


def samples_of(kind, rows, rng):
    """Log-probabilities [rows, K, C] of a pool of one kind."""
    logits = 2 * torch.randn(rows, K, C, generator=rng, dtype=torch.float64)
    if kind == "certain":
        logits = logits[:, :1].expand(-1, K, -1)
    if kind == "identical":
        logits = logits[:1].expand(rows, -1, -1)
    if kind in {"certain", "disagreeing"}:
        return torch.nn.functional.one_hot(logits.argmax(2), C).double().log()
    return logits.log_softmax(2)


def build(kind="ordinary", dtype=torch.float64, device="cpu", *, seed=0):
    """A value for every name that a strategy may ask for."""
    rows, labelled = SIZES.get(kind, (N, M))
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(D, C, generator=rng, dtype=torch.float64).to(device, dtype)
    log_probs = samples_of(kind, rows + labelled, rng)
    probs = log_probs.exp().mean(1)
    features = torch.randn(rows + labelled, D, generator=rng, dtype=torch.float64)
    if kind == "identical":
        features = features[:1].expand(rows + labelled, -1)
    tensors = {
        "log_probs": log_probs[:rows],
        "probs": probs[:rows],
        "features": features[:rows],
        "scores": torch.special.entr(probs[:rows]).sum(1),
        "predicted_losses": features[:rows, 0],
        "costs": 1 + features[:rows, 1].abs(),
        "labelled_log_probs": log_probs[rows:],
        "labelled_probs": probs[rows:],
        "labelled_features": features[rows:],
        "target_log_probs": samples_of(kind, J, rng),
    }
    return {name: value.to(device, dtype, copy=True) for name, value in tensors.items()} | {
        "labels": torch.arange(labelled, device=device) % C,
        "head": lambda z: z @ weight,
        "round": 3,
        "n_labelled": labelled,
        "n_pool": rows,
        "shards": None,
        "generator": torch.Generator(device).manual_seed(seed),
    }


def call(strategy, values, **changed):
    values = values | changed
    given = {name: values[name] for name in inputs_of(strategy)}
    if parts_of(strategy):
        parts = parts_of(strategy).items()
        given["strategies"] = {name: partial(take, part, values) for name, part in parts}
    return strategy(**given)


def take(part, values, free, n):
    """A part of a combining strategy, as the shell hands it over."""
    free = free.to(values["features"].device)
    rows = {name: values[name][free] for name in POOL}
    return free[choose(part, values | rows | {"n_pool": len(free)}, n)]


def choose(strategy, values, n):
    """Positions as the shell takes them: from the selection, or the best of the scores."""
    if is_score(strategy):
        return top_n(call(strategy, values), n)
    return call(strategy, values, n=n)


def tensors_in(strategy, values):
    names = sorted(needs_of(strategy, None) & values.keys())
    return {name: values[name] for name in names if isinstance(values[name], torch.Tensor)}


def shuffled(strategy, values, permutation):
    rows = {name: value for name, value in tensors_in(strategy, values).items() if name in POOL}
    return values | {name: value[permutation] for name, value in rows.items()}


def test_the_suite_builds_every_name_of_the_vocabulary():
    assert VOCABULARY - {"n"} <= build().keys()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", POOLS)
def test_n_distinct_positions_are_chosen(strategy_file, kind, dtype, device):
    strategy = strategy_of(strategy_file)
    rows = build(kind)["n_pool"]
    for n in sorted({0, min(1, rows), min(5, rows), rows}):
        positions = choose(strategy, build(kind, dtype, device), n)
        assert positions.dtype == torch.long
        assert positions.device.type == device
        assert positions.shape == (n,)
        assert set(positions.tolist()) <= set(range(rows))
        assert len(set(positions.tolist())) == n


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", POOLS)
def test_a_score_is_one_number_per_item_and_the_highest_are_chosen(
    strategy_file, kind, dtype, device
):
    strategy = strategy_of(strategy_file)
    if not is_score(strategy):
        pytest.skip("a selection")
    values = build(kind, dtype, device)
    scores = call(strategy, values)
    assert scores.shape == (values["n_pool"],)
    assert scores.is_floating_point()
    assert scores.device.type == device
    assert (scores.isfinite() | scores.isneginf()).all()
    n = min(5, len(scores))
    assert scores[top_n(scores, n)].tolist() == sorted(scores.tolist(), reverse=True)[:n]


@pytest.mark.parametrize("kind", POOLS)
def test_the_same_seed_gives_the_same_answer(strategy_file, kind):
    strategy = strategy_of(strategy_file)
    n = min(5, build(kind)["n_pool"])
    for seed in range(3):
        first, second = (call(strategy, build(kind, seed=seed), n=n) for _ in range(2))
        assert torch.equal(first, second)


@pytest.mark.parametrize("kind", POOLS)
def test_global_generators_are_not_touched(strategy_file, kind, device):
    strategy = strategy_of(strategy_file)
    values = build(kind, device=device)
    n = min(5, values["n_pool"])

    def states():
        numpy_state = np.random.get_state()[1:]  # noqa: NPY002 (the global one is what is watched)
        on_device = torch.cuda.get_rng_state() if device == "cuda" else torch.empty(0)
        return [
            torch.get_rng_state().tolist(),
            on_device.tolist(),
            [np.asarray(part).tolist() for part in numpy_state],
            random.getstate(),
        ]

    before = states()
    choose(strategy, values, n)
    assert states() == before


@pytest.mark.parametrize("kind", POOLS)
def test_inputs_are_unchanged(strategy_file, kind, device):
    strategy = strategy_of(strategy_file)
    values = build(kind, device=device)
    before = {name: value.clone() for name, value in tensors_in(strategy, values).items()}
    choose(strategy, values, min(5, values["n_pool"]))
    for name, value in before.items():
        assert torch.equal(values[name], value), name


@pytest.mark.parametrize("kind", ["ordinary", "unlabelled"])
def test_a_shuffled_pool_gives_the_shuffled_answer(strategy_file, kind):
    strategy = strategy_of(strategy_file)
    if "generator" in needs_of(strategy, None):
        pytest.skip("draws at random")
    for seed in range(5):
        values = build(kind, seed=seed)
        permutation = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
        other = shuffled(strategy, values, permutation)
        if is_score(strategy):
            expected = call(strategy, values)[permutation]
            torch.testing.assert_close(call(strategy, other), expected, rtol=1e-12, atol=1e-12)
        else:
            items = permutation[choose(strategy, other, 5)]
            assert torch.equal(items, choose(strategy, values, 5))


def test_the_score_of_an_item_depends_on_its_row_alone(strategy_file):
    strategy = strategy_of(strategy_file)
    if not is_score(strategy) or "generator" in inputs_of(strategy):
        pytest.skip("sees the whole pool, or draws at random")
    values = build()
    full = call(strategy, values)
    for rows in (torch.tensor([4]), torch.arange(5), torch.arange(5, N)):
        part = call(strategy, shuffled(strategy, values, rows))
        torch.testing.assert_close(part, full[rows], rtol=1e-12, atol=1e-12)


def test_n_outside_the_pool_is_refused(strategy_file):
    strategy = strategy_of(strategy_file)
    for n in (-1, N + 1, 10 * N):
        with pytest.raises(ValueError, match=rf"must .*{N}.* got {n}\b"):
            choose(strategy, build(), n)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_anywhere_is_refused(strategy_file, dtype):
    strategy = strategy_of(strategy_file)
    tensors = {
        name
        for leaf in asked_leaves(strategy, build(), 1, N).values()
        for name, value in tensors_in(leaf, build()).items()
        if value.is_floating_point()
    }
    for name in sorted(tensors):
        for place in (0, build()[name].numel() // 2, -1):
            values = build(dtype=dtype)
            values[name].view(-1)[place] = torch.nan
            with pytest.raises(ValueError, match=rf"(?=.*must)(?=.*\b{name}\b)(?=.*NaN).*got"):
                choose(strategy, values, 1)


def test_arguments_are_keywords_and_yaml_keys_are_among_them(strategy_file):
    config = config_of(strategy_file)
    parameters = inspect.signature(get_method(config._target_)).parameters
    assert config._partial_ is True
    assert {str(key) for key in config} - {"_target_", "_partial_"} <= parameters.keys()
    assert {parameter.kind for parameter in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}


def test_every_setting_stands_in_the_yaml_with_its_default(own_strategy_file):
    config = OmegaConf.to_container(OmegaConf.load(own_strategy_file))
    parameters = inspect.signature(get_method(config["_target_"])).parameters
    settings = {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.default is not inspect.Parameter.empty and name not in VOCABULARY
    }
    assert settings.keys() <= config.keys()
    for name, default in settings.items():
        assert default is None or config[name] == default


def test_files_and_yamls_correspond_one_to_one(own_strategies):
    modules = {path.stem for path in Path(*dal.strategies.__path__).glob("*.py")} - {"__init__"}
    files = list(own_strategies.glob("*.yaml"))
    functions = {file.stem for file in files if "_target_" in OmegaConf.load(file)}
    assert functions == modules
    for file in files:  # the others are a strategy over a score, and named so
        parts = OmegaConf.load(file).get("defaults", [])
        if file.stem not in functions:
            over, score = parts[0], parts[1]["override /strategy@_global_.score"]
            assert file.stem == f"{over}_{score}"


def test_a_file_holds_the_one_public_function_of_its_name(own_strategy_file):
    stem = own_strategy_file.stem
    target = OmegaConf.load(own_strategy_file)._target_
    assert target == f"dal.strategies.{stem}.{stem}"
    tree = ast.parse(inspect.getsource(inspect.getmodule(get_method(target))))
    defined = [node.name for node in tree.body if hasattr(node, "name")]
    assert [name for name in defined if not name.startswith("_")] == [stem]


def test_a_docstring_has_its_sections_and_a_worked_example(own_strategy_file):
    function = get_method(OmegaConf.load(own_strategy_file)._target_)
    lines = [line.strip() for line in inspect.getdoc(function).splitlines()]
    assert [line for line in lines if line in {"Args:", "Returns:", "Raises:"}] == [
        "Args:", "Returns:", "Raises:",
    ]  # fmt: skip
    for name in inspect.signature(function).parameters:
        assert any(line.startswith(f"{name}:") for line in lines), name
    paragraphs = {line.partition(":")[0] for line in lines}
    assert "Source" in paragraphs
    assert "Cost" in paragraphs or is_score(function)
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(function))
    assert any(f"{function.__name__}(" in example.source and example.want for example in examples)
