"""Where the tensors of a query will go, and what its selection takes beside them: on paper."""

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from dal.acquisition_pass import MODEL, Pass
from dal.acquisition_shares import share_of
from dal.acquisition_signature import LABELLED, POOL, TARGET, wants_last_layer
from dal.acquisition_storage import SHARE, Storage
from dal.functional.costs import Cost, Sizes, cost_of

GUESS = 2.0  # a declared cost may be off by as much
NUMBER = 4  # bytes of a float32
HOST = torch.device("cpu")

Place = torch.device | None
"""Where a tensor is kept; None stands for a memory-mapped file."""


@dataclass(frozen=True)
class Memory:
    """What a query takes of each place.

    Args:
        kept: bytes of its tensors by place.
        work: bytes that the selection is expected to take beside them.
        where: the device on which it runs.
        free: bytes that are left there for it.
        lacking: bytes for which not even the disk has room.
    """

    kept: Mapping[Place, int]
    work: int
    where: torch.device
    free: int
    lacking: int

    @property
    def total(self) -> int:
        """Bytes of all places."""
        return sum(self.kept.values()) + self.work

    @property
    def fits(self) -> bool:
        """Whether there is room, if the selection takes what it declares."""
        return not self.lacking and self.work <= max(self.free, 0)

    @property
    def hopeless(self) -> bool:
        """Whether there is no room even if the selection takes less than it declares."""
        return bool(self.lacking) or self.work > GUESS * max(self.free, 0)


@dataclass(frozen=True)
class Kept:
    """A tensor of a query: rows, numbers of a row, bytes of a number."""

    rows: int
    width: int
    number: int = NUMBER

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.rows * self.width * self.number


def free_of(storage: Storage) -> dict[torch.device, int]:
    """Bytes free in each memory before anything is kept."""
    return {place.device: int(place.room / SHARE) for place in storage.places}


def memory_of(plan: Pass, sizes: Sizes) -> Memory:
    """Place the tensors of a pass as its storage will, without allocating any.

    Args:
        plan: what the leaves of a query need, and where it may be kept.
        sizes: of the query; D is the width of the model's features.
    """
    storage, kept, places = plan.storage, Counter[Place](), dict[str, Place]()
    sizes = sizes._replace(N=_own_rows(plan, sizes))
    tensors = tensors_of(plan, sizes)
    with storage.borrowed():
        for key, tensor in tensors.items():  # one number a row always stays on the device
            places[key] = storage.device if tensor.width == 1 else storage.take(tensor.size)
            kept[places[key]] += tensor.size
    where, work = storage.device, 0
    for path in (path for path in plan.leaves if path not in plan.streamed):
        asked = {key for key in plan.keys[path].values() if key in tensors}
        moves = any(places[key] != storage.device for key in asked)
        copied = sum(
            tensors[key].size for key in asked if moves and places[key] not in (HOST, None)
        )
        cost = leaf_cost(plan, path, sizes)
        most = copied + (int(cost.numbers * NUMBER) if cost else 0)
        if most >= work:
            where, work = HOST if moves else storage.device, most
    file = kept[None]
    lacking = max(file - shutil.disk_usage(storage.folder).free, 0) if file else 0
    return Memory(kept, work, where, free_of(storage)[where] - kept[where], lacking)


def tensors_of(plan: Pass, sizes: Sizes) -> dict[str, Kept]:
    """What a pass keeps, by its key and in the order of allocation; each thing once."""
    widths = {"log_probs": sizes.K * sizes.C, "probs": sizes.C, "features": sizes.D}
    given, other, pool = dict[str, Kept](), dict[str, Kept](), dict[str, Kept]()
    for path, names in plan.keys.items():
        for name, key in names.items():
            if name not in POOL | LABELLED | TARGET:
                continue
            rows = sizes.N if name in POOL else sizes.M if name in LABELLED else sizes.J
            if plan.features is not None and name.endswith("features") and MODEL not in key:
                given[key] = Kept(rows, plan.features.shape[1], plan.features.element_size())
            elif name not in POOL:
                other[key] = Kept(rows, widths[name.partition("_")[2]])
            elif path not in plan.streamed:
                pool[key] = Kept(rows, widths.get(name, 1))
        if path in plan.streamed:
            pool[path] = Kept(sizes.N, 1)
    return given | other | {key: pool[key] for key in sorted(pool)}


def _own_rows(plan: Pass, sizes: Sizes) -> int:
    """Rows that this process holds: a share where the device has no room for the whole pool."""
    storage, names = plan.storage, plan.keys.get("", {})
    asked = {key for name, key in names.items() if name in POOL}
    if "shards" not in names or (plan.features is not None and "features" in asked):
        return sizes.N
    tensors = tensors_of(plan, sizes)
    row = sum(tensors[key].width * tensors[key].number for key in asked)
    share = share_of(sizes.N, plan.data.eval_batch_size, 0, storage.processes.count).stop
    divided = storage.has_room(share * row) and not storage.has_room(sizes.N * row)
    return share if divided else sizes.N


def leaf_cost(plan: Pass, path: str, sizes: Sizes) -> Cost | None:
    """Cost of one of the selections, None if it declares none."""
    leaf = plan.leaves[path]
    if plan.features is not None and not wants_last_layer(leaf):
        sizes = sizes._replace(D=plan.features.shape[1])
    return cost_of(leaf, sizes._replace(n=min(sizes.n, sizes.N)))
