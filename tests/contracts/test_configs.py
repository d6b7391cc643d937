"""Every option of every config group composes, and its target exists with those keywords."""

import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_method
from omegaconf import OmegaConf

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted(
    (file.parent.name, file.stem) for file in CONF.glob("*/*.yaml") if file.parent.name != "hydra"
)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_an_option_composes_and_its_keys_are_keywords_of_its_target(group, option):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[f"{group}={option}"])
    if group == "experiment":
        return
    node = OmegaConf.to_container(config[group])
    named = inspect.signature(get_method(node.pop("_target_"))).parameters
    node.pop("_partial_", None)
    assert set(node) <= set(named)
