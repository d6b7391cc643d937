"""Every option of every config group composes, and nothing is wrong with its settings."""

import importlib.util
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from dal.configuration import BY_NAME, KNOWN

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
OPTIONS = sorted(
    (file.parent.name, file.stem) for file in CONF.glob("*/*.yaml") if file.parent.name != "hydra"
)
NEEDED = {
    "tensors": ["dataset.path=rows.npz"],
    "budget": ["stopping.budget.limit=100"],
    "max_score": ["stopping.max_score.threshold=0.1"],
    "target_accuracy": ["stopping.target_accuracy.accuracy=0.9"],
}


@pytest.fixture(scope="module")
def edge():
    """The module of the command line."""
    spec = importlib.util.spec_from_file_location("train", ROOT / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[*overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    return config


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_an_option_composes_and_nothing_is_wrong_with_its_settings(edge, group, option):
    if option == "gpu" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    settings = edge.settings_of(composed(f"{group}={option}", *NEEDED.get(option, [])))
    if group == "experiment":
        assert settings["name"] != "default"
    else:
        node = settings[group][option] if group in BY_NAME else settings[group]
        assert node["_target_"].endswith(option if group in BY_NAME else "")


def test_every_key_of_the_configuration_has_a_place():
    assert set(composed()) <= set(KNOWN)
