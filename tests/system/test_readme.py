"""The README names what exists, and its commands are the ones that CI runs."""

import subprocess
import sys

import pytest
from cli import ROOT

README = (ROOT / "README.md").read_text()
OPTIONS = sorted(
    file.stem
    for group in ("strategy", "dataset", "model")
    for file in (ROOT / "conf" / group).glob("*")
)


@pytest.mark.parametrize("option", OPTIONS)
def test_the_readme_names_every_option(option):
    assert f"`{option}`" in README


def test_the_table_of_strategies_is_what_its_script_writes():
    command = [sys.executable, ROOT / "scripts/strategy_table.py", "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_readme_holds_the_two_commands_that_set_up_a_fresh_machine():
    assert "\npip install -e . && python train.py strategy=bald\n" in README
    assert "\npip install -e '.[dev]' && python -m pytest -n auto\n" in README


def test_every_path_in_the_layout_exists():
    layout = README.split("## Layout")[1].split("```")[1]
    for line in layout.strip().splitlines():
        if not line.startswith(" "):
            assert (ROOT / line.split()[0]).exists(), line
