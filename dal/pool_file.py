"""The file that keeps the pool's state."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dal.files import read_json, write_atomically


class PoolFile:
    """JSON of the pool's state, written whole each time, but put into words piece by piece.

    What was bought before never changes, so its text is kept: a save takes milliseconds however
    much was bought.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: list[tuple[Any, str]] = []  # parts of the state, and the text of each

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state of `LabelledPool.state_dict()`.

        Raises:
            ValueError: if the file cannot be written. It holds the earlier state then.
        """
        parts = [state["size"], state["held_out"], *state["history"]]
        texts = []
        for number, part in enumerate(parts):
            known, text = self._known[number] if number < len(self._known) else (None, "")
            texts.append(text if known is part else json.dumps(part, allow_nan=False))
        self._known = list(zip(parts, texts, strict=True))
        size, held, *history = texts
        lines = ",\n".join(history)
        text = f'{{"size": {size},\n"held_out": {held},\n"history": [\n{lines}\n]}}\n'
        write_atomically(self.path, text.encode())

    def read(self) -> Any:
        """Read what was saved; `LabelledPool.load_state_dict` judges it.

        Raises:
            ValueError: if the file cannot be read or is no JSON.
        """
        return read_json(self.path)
