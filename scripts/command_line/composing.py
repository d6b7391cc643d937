"""Compose configurations as the command line does, without running anything."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra


class CommandLine:
    """The arguments of a command, and where its configuration files lie.

    Args:
        arguments: those after the script's name.
        conf: the project's folder of configurations.
    """

    def __init__(self, arguments: Sequence[str], conf: Path) -> None:
        given: Namespace = get_args_parser().parse_args(arguments)
        self.sweep: bool = given.multirun
        self.overrides: list[str] = given.overrides
        self.name: str = given.config_name or "config"
        self.places = [conf, Path(given.config_dir or conf).resolve()]
        if not (conf / self.name).with_suffix(".yaml").exists():
            self.places.reverse()  # the first has the primary file

    @property
    def search(self) -> str:
        """The override by which the second place is searched too."""
        return f"hydra.searchpath=[file://{self.places[1]}]"

    @contextmanager
    def composing(self) -> Iterator[None]:
        """Let Hydra compose inside the block."""
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(self.places[0]), version_base="1.3"):
            yield
