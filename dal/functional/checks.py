"""Checks at the public door of the maths ring: a rule, then what came instead."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import TypeGuard

import torch
from torch import Tensor

from dal.functional.blocks import score_rows


def check_count(name: str, value: object, least: int) -> None:
    """Raise ValueError unless `value` is a whole number of at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_n(n: int, size: int) -> None:
    """Raise ValueError unless 0 <= n <= size."""
    if not 0 <= n <= size:
        raise ValueError(f"n must lie between 0 and the pool size {size}, got {n}")


def check_tensor(name: str, value: Tensor, *shape: str) -> None:
    """Raise ValueError unless `value` has one dimension per name in `shape` and holds no NaN.

    NaN is refused, never repaired: topk, argmax and argsort all rank it first, so that a
    diverged model would choose the query. Infinities are legal (log 0 = -inf).
    """
    check_shape(name, value, *shape)
    check_nan(name, value)


def check_shape(name: str, value: Tensor, *shape: str) -> None:
    """Raise ValueError unless `value` is floating point, one dimension per name in `shape`."""
    if value.dim() != len(shape):
        raise ValueError(
            f"{name} must have the shape [{', '.join(shape)}], got {list(value.shape)}"
        )
    if not value.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {value.dtype}")


def check_nan(name: str, value: Tensor, scores: Tensor | None = None) -> None:
    """Raise ValueError if `value` holds NaN.

    Args:
        name: of the value.
        value: any shape.
        scores: computed from `value` in a way that hands every NaN on; they are looked at
            instead, which spares a pass over memory.
    """
    if scores is not None and not scores.isnan().any():
        return
    if value.numel() and value.amax().isnan():  # the maximum hands NaN on, without a copy
        raise ValueError(f"{name} must not hold NaN, got {int(value.isnan().sum())} of them")


def check_features(name: str, value: Tensor, rows: str = "N") -> None:
    """Raise ValueError unless `value` is [rows, D] and its squared distances can be added up.

    An infinite feature, or one whose square overflows, turns distances into NaN; a sum over the
    rows that overflows makes all of them look alike.
    """
    check_tensor(name, value, rows, "D")
    norms = score_rows(lambda block, squares: torch.square(block, out=squares).sum(1), value, 1)
    largest = torch.finfo(value.dtype).max / (4 * max(len(value), 1))  # |x - y|² <= 4 max |x|²
    exploded = ~(norms <= largest)
    if exploded.any():
        raise ValueError(
            f"{name} must have finite distances that can be added over {len(value)} rows in "
            f"{value.dtype}: squared norms of at most {largest:.2g}; got {int(exploded.sum())} "
            f"rows above; training diverged, or the features need scaling"
        )


def check_feature_sets(features: Tensor, labelled_features: Tensor) -> None:
    """Raise ValueError unless both are features, [N, D] and [M, D], of one width."""
    check_features("features", features)
    check_features("labelled_features", labelled_features, "M")
    check_widths(features=features, labelled_features=labelled_features)


def check_samples(log_probs: Tensor, strategy: str) -> None:
    """Raise ValueError unless `log_probs` [N, K, C] holds two or more samples and no NaN."""
    check_samples_shape(log_probs, strategy)
    check_nan("log_probs", log_probs)


def check_samples_shape(log_probs: Tensor, strategy: str) -> None:
    """Raise ValueError unless `log_probs` is [N, K, C] with at least two posterior samples."""
    check_shape("log_probs", log_probs, "N", "K", "C")
    if log_probs.shape[1] < 2:
        raise ValueError(
            f"{strategy} measures disagreement and needs K >= 2 posterior samples, "
            f"got K = {log_probs.shape[1]}; use posterior=mc_dropout with posterior.samples=20"
        )


def check_probs(probs: Tensor) -> None:
    """Raise ValueError unless `probs` is [N, C] with at least two classes and holds no NaN."""
    check_probs_shape(probs)
    check_nan("probs", probs)


def check_probs_shape(probs: Tensor) -> None:
    """Raise ValueError unless `probs` is [N, C] with at least two classes."""
    check_shape("probs", probs, "N", "C")
    if probs.shape[1] < 2:
        raise ValueError(f"probs must cover at least 2 classes, got C = {probs.shape[1]}")


def check_positive(name: str, value: object) -> None:
    """Raise ValueError unless `value` is a finite number above 0."""
    if not _is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")


def check_not_negative(name: str, value: object) -> None:
    """Raise ValueError unless `value` is a finite number of at least 0."""
    if not _is_number(value) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")


def check_share(name: str, value: object) -> None:
    """Raise ValueError unless `value` is a number from 0 to 1."""
    if not _is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value!r}")


def check_rows(**tensors: Tensor) -> None:
    """Raise ValueError unless the named tensors have equally many rows."""
    if len({len(value) for value in tensors.values()}) > 1:
        got = " and ".join(str(len(value)) for value in tensors.values())
        raise ValueError(f"{' and '.join(tensors)} must have the same rows, got {got}")


def check_widths(**tensors: Tensor) -> None:
    """Raise ValueError unless the last dimensions of the named tensors are equal."""
    if len({value.shape[-1] for value in tensors.values()}) > 1:
        got = " and ".join(str(value.shape[-1]) for value in tensors.values())
        raise ValueError(f"{' and '.join(tensors)} must have the same last dimension, got {got}")


def check_labels(labels: Tensor, rows: int) -> None:
    """Raise ValueError unless `labels` is [rows] whole numbers from 0 up."""
    if labels.shape != (rows,) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(
            f"labels must be whole numbers of shape [{rows}], got {labels.dtype} of shape "
            f"{list(labels.shape)}"
        )
    if rows and int(labels.min()) < 0:
        raise ValueError(f"labels must be class numbers from 0 up, got {int(labels.min())}")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole_numbers(name: str, numbers: Sequence[int] | Tensor) -> Tensor:
    """Return numbers as [n] long on the CPU if they are a list of whole numbers.

    Raises:
        ValueError: if they are not.
    """
    try:
        given = torch.as_tensor(numbers)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError(f"{name} must be a list of whole numbers, got {numbers!r:.80}") from None
    if given.dim() != 1:
        raise ValueError(f"{name} must be a list, got shape {list(given.shape)}")
    inexact = given.is_floating_point() or given.is_complex() or given.dtype == torch.bool
    if inexact and len(given):  # torch makes an empty list one of fractions
        raise ValueError(f"{name} must be whole numbers, got {given.dtype}")
    return given.long().cpu()
