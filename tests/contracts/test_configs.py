"""Every option of every config group composes, and nothing is wrong with its settings."""

import pytest
import torch
from edge import CONF, composed, train_module

from dal.configuration import BY_NAME, KNOWN

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
    return train_module()


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
