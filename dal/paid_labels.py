"""What an oracle answered, kept before anything else is done with it: a label is paid for once."""

import json
from pathlib import Path
from typing import Any

from dal.callbacks.round_log import Record
from dal.files import make_folder, read_json, reason, write_atomically
from dal.pool import LabelledPool
from dal.run_records import check_purchase
from dal.signals import undisturbed

FIELDS = ("acquired", "acquired_labels", "scores", "acquisition_seconds")


class PaidLabels:
    """A file of the purchase of a round that is not finished.

    The round is done again if it is interrupted then, but for its query: on a device whose sums
    vary from run to run a second query might want other rows.

    Args:
        path: of the file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, record: Record) -> None:
        """Keep the purchase.

        Raises:
            ValueError: if the file cannot be written, naming it.
        """
        purchase = {name: record[name] for name in FIELDS}
        with undisturbed():  # a polite signal must not lose what a kill would leave
            make_folder(self.path.parent)
            write_atomically(self.path, json.dumps(purchase, allow_nan=False).encode())

    def read(self, n: int, pool: LabelledPool, classes: int) -> dict[str, Any] | None:
        """Return what was bought, to be taken into the round's record, or None.

        Args:
            n: how many rows a round buys at most.
            pool: has them.
            classes: labels lie below.

        Raises:
            ValueError: if the file is damaged, naming it.
        """
        if not self.path.exists():
            return None
        try:
            purchase = read_json(self.path)
            if not isinstance(purchase, dict) or purchase.keys() != set(FIELDS):
                raise ValueError(f"it must have {', '.join(FIELDS)}")
            if type(purchase["acquisition_seconds"]) not in (int, float):
                raise ValueError("acquisition_seconds must be a number")
            lists = (purchase[name] for name in FIELDS[:3])
            check_purchase(*lists, rows=pool.size, classes=classes, least=pool.least)
            if not 1 <= len(pool.check(purchase["acquired"])) <= n:
                raise ValueError(f"1 to {n} rows were wanted, it has {len(purchase['acquired'])}")
        except ValueError as error:
            raise ValueError(
                f"{self.path} is damaged ({reason(error)}); restore it, or remove it to ask again "
                f"for the labels of that round"
            ) from error
        return purchase
