"""All that is wrong with the settings is told at once, before anything is done or written."""

import logging
import sys
from pathlib import Path

import pytest

from dal.callbacks.round_log import RoundLog
from dal.data import digits

MANY = ["querysize=3", "strategy=bal", "rounds=-1", "optimizer.lr=0", "posterior.samples=1"]
MANY += ["posterior.memory_mb=-1", "trainer.precision=17", "initial=diverse", "foo=("]
TOLD = [
    "querysize is unknown; did you mean query_size?",
    "strategy=bal is unknown; did you mean bald? There are:",
    "'foo=(' is no key=value",
    "rounds must be a whole number of at least 0, got -1",
    "initial must be random, balanced or a list of whole numbers, got 'diverse'",
    "trainer.precision must be 64, 32,",
    "posterior.memory_mb must be",
    "posterior.samples must be at least 2",
    "optimizer.lr must be a finite number above 0, got 0",
]


@pytest.fixture
def nothing_is_done(monkeypatch):
    monkeypatch.setattr(digits, "stratified_split", lambda *_: 1 / 0)
    monkeypatch.setattr(RoundLog, "on_run_start", lambda *_: 1 / 0)


def test_every_override_and_every_value_is_told_in_a_line_of_its_own(
    train, folder, nothing_is_done
):
    ended = train("logger=none", *MANY)
    first, *lines = ended.err.strip().splitlines()
    assert (ended.code, first) == (1, f"error: {len(TOLD)} settings are wrong")
    assert all(line.startswith("  ") for line in lines)
    for said in TOLD:
        assert sum(said in line for line in lines) == 1, said
    assert len(lines) == len(TOLD)
    assert not [*folder.iterdir()]


def test_settings_that_are_wrong_leave_no_folder(train, folder, nothing_is_done):
    assert train("logger=none", "rounds=-1", "seed=abc").code == 1
    assert not [*folder.iterdir()]


def test_data_that_are_wrong_leave_no_folder(train, folder):
    assert train("logger=none", "dataset=mnist").code == 1
    assert not [*folder.iterdir()]


def test_a_folder_that_was_there_stays(train, folder):
    kept = Path("runs/default/digits-cnn/random/seed=0")
    kept.mkdir(parents=True)
    (kept / "mine.txt").write_text("mine")
    assert train("logger=none", "rounds=-1").code == 1
    assert [*kept.iterdir()] == [kept / "mine.txt"]


def test_a_key_may_exist_through_another_override(train):
    ended = train("logger=none", "strategy.radius=0", "strategy=prob_cover", "querysize=3")
    lines = ended.err.strip().splitlines()
    assert len(lines) == 3
    assert "querysize is unknown" in lines[1]
    assert "strategy.radius must be a finite number above 0" in lines[2]


def test_settings_of_an_unknown_option_are_not_told_as_unknown(train):
    ended = train("logger=none", "strategy=prob_covr", "strategy.radius=1")
    assert len(ended.err.strip().splitlines()) == 1
    assert "did you mean prob_cover?" in ended.err


def test_each_job_of_a_sweep_tells_its_own_and_the_others_run(train, records):
    ended = train("-m", "logger=none", "seed=0,-1", "rounds=0", "steps=1", "posterior.samples=2")
    assert ended.code == 1
    assert "error in [2/2] random digits-cnn seed=-1: seed must be a whole number" in ended.err
    assert len(records("default/digits-cnn/random/seed=0")) == 1
    assert not Path("runs/default/digits-cnn/random/seed=-1").exists()


def test_an_unknown_key_ends_a_sweep_before_its_first_job(train, folder):
    ended = train("-m", "logger=none", "strategy=random,bal", "querysize=3")
    assert ended.code == 1
    assert "strategy=bal is unknown; did you mean bald?" in ended.err
    assert "querysize is unknown; did you mean query_size?" in ended.err
    assert not [*folder.rglob("rounds.jsonl")]


def test_a_wrong_key_of_an_own_experiment_file_is_told(train, folder):
    file = folder / "conf/experiment/mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\nquery_sise: 3\n")
    ended = train("--config-dir", "conf", "logger=none", "experiment=mine")
    assert ended.err == "error: query_sise is unknown; did you mean query_size?\n"


def test_an_own_strategy_is_told_its_names_and_its_own_refusals(train, folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    file = folder / "conf/strategy/mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("_target_: my_own_strategy.mine\n_partial_: true\npower: 1.0\n")
    (folder / "my_own_strategy.py").write_text(
        "def mine(*, features, power=2.0, width=1):\n"
        "    if power < 0: raise ValueError(f'power must not be below 0, got {power}')\n"
        "    return features.norm(dim=1) ** power\n"
    )
    own = ["--config-dir", "conf", "logger=none", "strategy=mine", "strategy.power=-1"]
    named = train(*own, "+strategy.widht=3")
    assert named.err == "error: strategy.widht is unknown; did you mean strategy.width?\n"
    assert train(*own).err == "error: power must not be below 0, got -1\n"
    assert not Path("runs").exists()


def test_a_primary_file_that_is_not_there_is_one_line(train):
    assert train("-cn", "nope").err == "error: no configuration file nope\n"


def test_an_own_primary_file_is_read_with_its_faults(train, folder):
    (folder / "conf").mkdir()
    file = folder / "conf/mine.yaml"
    file.write_text("defaults:\n  - config\n  - override dataset: digit\n")
    own = ["--config-dir", "conf", "-cn", "mine", "logger=none"]
    assert "error: dataset=digit is unknown; did you mean digits? There" in train(*own).err
    file.write_text("defaults:\n  - config\n  - _self_\nrounds: -1\n")
    lines = train(*own, "querysize=3").err.splitlines()
    assert lines == [
        "error: 2 settings are wrong",
        "  querysize is unknown; did you mean query_size?",
        "  rounds must be a whole number of at least 0, got -1",
    ]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("logger.settings={mode:offline}", "add it by +logger.settings.mode=..."),
        ("hydra.run.dirr=x", "hydra.run.dirr is unknown; did you mean hydra.run.dir?"),
        ("scheduler.step_size=3", "scheduler.step_size cannot be set: scheduler is null"),
        ("logger=null", "logger cannot be null; there are: csv, none, wandb"),
        ("posterior=null", "posterior cannot be null; there are: deterministic, "),
        ("~logger", "logger has no value; name one by logger=..., without ~logger"),
        ("~checkpoint", "checkpoint has no value"),
        ("name=${nope}", "error: name: Interpolation key 'nope' not found\n"),
        ("logger.tags=[${nope}]", "error: logger.tags[0]: Interpolation key 'nope' not found\n"),
        (
            "experiment=nothing",
            "experiment=nothing is unknown; there are: badge_mlp, batchbald_mnist",
        ),
    ],
)
def test_what_is_told_of_an_override_can_be_followed(train, override, said):
    ended = train(override)
    assert said in ended.err
    assert (ended.code, len(ended.err.splitlines())) == (1, 1)


def test_an_interpolation_that_cannot_be_replaced_ends_too(edge, monkeypatch):
    monkeypatch.setattr(edge.OmegaConf, "update", lambda *_: None)
    with pytest.raises(ValueError, match="name: Interpolation key 'nope' not found"):
        edge.settings_of(edge.OmegaConf.create({"name": "${nope}"}))


def test_a_run_without_a_posterior_has_one_sample(train):
    quick = ["logger=none", "rounds=0", "steps=1", "~posterior"]
    assert train(*quick).code == 0
    assert "K = 1" in train(*quick, "strategy=bald").err


def test_every_trainer_has_objects_of_its_own(edge):
    target = "lightning.pytorch.strategies.SingleDeviceStrategy"
    node = {"_target_": "lightning.pytorch.Trainer", "_partial_": True, "logger": False}
    node |= {"strategy": {"_target_": target, "device": "cpu"}, "enable_checkpointing": False}
    trainer = edge.trainers_of(edge.OmegaConf.create(node))
    assert trainer(max_epochs=1).strategy is not trainer(max_epochs=1).strategy
    node["plugins"] = []
    assert not hasattr(edge.trainers_of(edge.OmegaConf.create(node)), "keywords")
    plugin = {"_target_": "lightning.pytorch.plugins.environments.LightningEnvironment"}
    node["plugins"] = [plugin]
    given = edge.trainers_of(edge.OmegaConf.create(node)).keywords["plugins"]
    assert [type(one).__name__ for one in given] == ["LightningEnvironment"]


def test_the_jobs_of_a_sweep_say_nothing_of_devices(train, monkeypatch):
    levels = []

    def look(_):
        levels.append(logging.getLogger("lightning.pytorch").getEffectiveLevel())

    monkeypatch.setattr("dal.processes.check_sweep", look)
    assert train("-m", "logger=none", "rounds=0", "steps=1", "seed=0,1").code == 0
    assert levels == [logging.WARNING] * 2


@pytest.mark.parametrize("file", ["config.yaml", "rounds.jsonl", "state/pool.json"])
def test_a_target_in_the_run_directory_is_never_looked_up(train, folder, monkeypatch, file):
    monkeypatch.syspath_prepend(folder)
    (folder / "canary_module.py").write_text("open('looked-up', 'w')\ndef it(**_): pass\n")
    run = ["hydra.run.dir=kept", "logger=none", "rounds=0", "steps=1"]
    assert train(*run).code == 0
    place = folder / "kept" / file
    text = place.read_text()
    target = '"_target_": "canary_module.it"'
    if file == "config.yaml":
        place.write_text(text.replace("dal.oracles.dataset.DatasetOracle", "canary_module.it"))
    else:
        place.write_text(text.replace("{", "{" + target + ", ", 1))
    train(*run)  # refused or not
    train(*run, "rounds=1")
    assert "canary_module" not in sys.modules
    assert not Path("looked-up").exists()
