"""ProbCover with few labels on real MNIST; TypiClust's part is claim 3."""

import os
import sys
from pathlib import Path

import pytest
from cli import ROOT

sys.path.insert(0, str(ROOT / "scripts"))  # where the script finds its package

from published.low_budget import gain, read_digits

from dal.strategies.prob_cover import prob_cover

DATA = Path(os.environ.get("DAL_DATA_DIR", ROOT.parent / "shared" / "data")) / "MNIST" / "raw"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no unpacked MNIST in {DATA}")


def test_probcover_with_its_purity_rule_is_above_random():
    at_10, at_20 = gain(read_digits(DATA), prob_cover, [10, 10])
    assert at_10 > 0
    assert at_20 > 0
