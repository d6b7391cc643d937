"""Tests of paired differences over seeds, and Holm's correction over strategies."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import permutation_test
from scipy.stats import t as student

from dal.analysis.statistics import mean_and_interval

FLIPS = 2**13  # all of them up to 13 pairs, as many at random beyond
DECIMALS = 6  # to which differences mean anything: metrics are float32
EQUAL = 10.0**-DECIMALS  # range within which differences are equal but for rounding


class PairedTest(NamedTuple):
    """Differences of paired runs: their mean with its 95 % interval, and how sure its sign is.

    Attributes:
        n: pairs.
        mean: difference.
        sd: of the differences.
        ci_low: 95 % interval of the mean (Student's t).
        ci_high: its other end.
        effect_size: Cohen's d_z, mean / sd; infinite if all differences are equal and not 0.
        p: two-sided paired t-test; where all differences are equal the test of sign flips.
        p_permutation: two-sided test of sign flips of the mean.
    """

    n: int
    mean: float
    sd: float
    ci_low: float
    ci_high: float
    effect_size: float
    p: float
    p_permutation: float


def paired_test(differences: Sequence[float] | np.ndarray) -> PairedTest:
    """Test whether the mean of paired differences is 0.

    The t-test needs a spread to measure with. Equal differences have none: their p is that of the
    sign flips, 2 / 2ⁿ, and 1 if all are 0. With fewer than two pairs nothing is tested: NaN.

    Args:
        differences: [n].

    Raises:
        ValueError: if a difference is not finite.

    >>> paired_test([0.1, 0.1, 0.1]).p
    0.25
    """
    values = np.asarray(differences, dtype=float)
    if not np.isfinite(values).all():
        raise ValueError(f"differences must be finite, got {values.tolist()}")
    mean, sd, low, high = mean_and_interval(values)
    n, p = len(values), paired_p(values)
    if n < 2:
        return PairedTest(n, mean, sd, low, high, np.nan, p, np.nan)
    if np.ptp(values) <= EQUAL:
        effect = float(np.sign(mean) * np.inf) if abs(mean) > EQUAL else 0.0
        return PairedTest(n, mean, 0.0, mean, mean, effect, p, p)
    return PairedTest(n, mean, sd, low, high, mean / sd, p, _sign_flips(values))


def paired_p(differences: np.ndarray) -> float:
    """Two-sided p of the paired t-test, as `paired_test` has it: [n] -> NaN with fewer than two."""
    n, mean = len(differences), differences.mean() if len(differences) else 0.0
    if n < 2:
        return float(np.nan)
    if np.ptp(differences) <= EQUAL:
        return 2 / 2.0**n if abs(mean) > EQUAL else 1.0
    t = mean / (differences.std(ddof=1) / np.sqrt(n))
    return float(2 * student.sf(abs(t), n - 1))


def _sign_flips(values: np.ndarray) -> float:
    """Two-sided p of the mean if each sign were a coin's; the coins are the same in every call."""

    def mean_difference(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray((a - b).mean(axis)).round(DECIMALS)  # ties are ties

    found = permutation_test(
        (values, np.zeros(len(values))),
        mean_difference,
        permutation_type="samples",
        n_resamples=FLIPS,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Correct p values for their number, so that one false claim among all is as rare as p says.

    Source: Holm, Scandinavian Journal of Statistics, 1979.

    Args:
        p_values: [m]; NaN is no test, and stays.

    Returns:
        [m]; the i-th smallest times m + 1 - i, not below the one before, at most 1.

    >>> holm([0.01, 0.04, 0.03]).round(4).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    corrected = np.full(len(p), np.nan)
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return corrected
