"""Parametrise tests over the strategies that exist and the devices that are there."""

import signal
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

STRATEGIES = Path(__file__).parents[1] / "conf" / "strategy"

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ],
    ),
]


def pytest_addoption(parser):
    parser.addoption(
        "--strategy-dir",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="test the strategies of DIR/*.yaml too; may be given several times",
    )


def pytest_configure(config):
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has it ignored
    for folder in strategy_folders(config):
        yaml_files(folder)


@pytest.fixture(autouse=True)
def gradients_as_before():
    """No test leaves recording of gradients switched off for those behind it."""
    yield
    recorded = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    torch.set_grad_enabled(True)
    assert recorded, "gradients are no longer recorded behind this test"


@pytest.fixture
def own_strategies():
    return STRATEGIES


def pytest_generate_tests(metafunc):
    if "strategy_file" in metafunc.fixturenames:
        folders = strategy_folders(metafunc.config)
        files = [file for folder in folders for file in yaml_files(folder)]
        metafunc.parametrize("strategy_file", files, ids=[file.stem for file in files])
    if "own_strategy_file" in metafunc.fixturenames:
        files = yaml_files(STRATEGIES)
        metafunc.parametrize("own_strategy_file", files, ids=[file.stem for file in files])
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", DEVICES)


def pytest_collection_modifyitems(items):
    """Let files with whole experiments be the first, so that all cores have work to the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def strategy_folders(config):
    return [STRATEGIES, *config.getoption("--strategy-dir")]


def yaml_files(folder):
    """Those that name a function; the others combine such."""
    files = [file for file in sorted(folder.glob("*.yaml")) if "_target_" in OmegaConf.load(file)]
    if not files:
        raise pytest.UsageError(f"a strategy folder must hold *.yaml files, {folder} holds none")
    return files
