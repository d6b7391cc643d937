"""Class numbers as settings name them."""

from collections.abc import Sequence


def check_classes(numbers: Sequence[int], names: Sequence[str]) -> None:
    """Raise ValueError unless these are some of the classes, each once, and two others are left.

    Args:
        numbers: of classes, at least one.
        names: of all of them.
    """
    wrong = [number for number in numbers if number not in range(len(names))]
    if not numbers or wrong or len(set(numbers)) < len(numbers):
        raise ValueError(
            f"classes must be different numbers from 0 to {len(names) - 1}, got {[*numbers]}"
        )
    if len(names) - len(numbers) < 2:
        raise ValueError(f"classes must leave 2 of the {len(names)}, got {[*numbers]}")
