"""How large the problems of a run are."""

from dataclasses import dataclass

CONFIGURATIONS = 10_000  # of labels, in BatchBALD
FLOAT = 4  # bytes


@dataclass(frozen=True)
class Size:
    """Numbers of items, named as in the table of cases."""

    pool: int = 50_000  # N of the selections on features
    labelled: int = 1_000
    width: int = 512  # D
    few: int = 100  # picks
    many: int = 1_000
    items: tuple[int, ...] = (1_000, 10_000)  # N of BatchBALD
    samples: tuple[int, ...] = (20, 100)  # K of BatchBALD
    batch: int = 10  # picks of BatchBALD
    scored: int = 50_000  # N of BALD, of K = 20 samples and C = 100 classes
    probable: int = 1_000_000  # N of entropy and margin, C = 100
    listed: int = 50_000  # N of the row that each selection has
    images: int = 128  # for MC dropout
    passes: int = 100  # its K
    steps: int = 300  # of training the small network
    repeats: int = 5
    draws: tuple[int, int] = (6, 2)  # seeds of k-means++, ours and the baseline's


@dataclass(frozen=True)
class Imagenet:
    """The four cases of an accelerator."""

    pool: int = 1_280_000
    width: int = 512
    labelled: int = 10_000
    picks: int = 50_000
    classes: int = 1_000
    tried: int = 500  # picks of the sequential baseline, from which the rest is extrapolated
    items: int = 60_000
    samples: int = 100
    batch: int = 10
    images: int = 50_000
    image_batch: int = 512
    passes: int = 100


SIZES = {
    "default": Size(),
    "small": Size(
        pool=5_000, labelled=100, few=50, many=200, items=(500, 2_000), scored=5_000,
        probable=100_000, listed=5_000, images=64, repeats=3,
    ),
    "quick": Size(
        pool=300, labelled=20, width=16, few=5, many=10, items=(30, 60), samples=(4, 8), batch=3,
        scored=100, probable=500, listed=60, images=4, passes=4, steps=5, repeats=2, draws=(8, 6),
    ),
}  # fmt: skip
IMAGENET = {
    "default": Imagenet(),
    "quick": Imagenet(
        pool=400, width=16, labelled=20, picks=12, classes=5, tried=4, items=40, samples=4,
        batch=3, images=8, image_batch=4, passes=4,
    ),
}  # fmt: skip


def short(count: int) -> str:
    """Write 50000 as 50k."""
    for unit, many in (("M", 1_000_000), ("k", 1_000)):
        if count >= many:
            return f"{count / many:g}{unit}"
    return str(count)
