"""Published procedures that are not loops over the pool: ProbCover's and TypiClust's."""

import torch
from sklearn.cluster import KMeans, MiniBatchKMeans
from torch import Tensor
from torch.nn.functional import normalize

ROWS = 500  # of a block of distances
MAX_CLUSTERS, SMALLEST, NEIGHBOURS = 500, 5, 20


def prob_cover(features: Tensor, radius: float, n: int) -> Tensor:
    """Choose n balls that cover most: all edges as arrays, filtered again for every pick.

    Args:
        features: [N, D]; scaled to norm 1 here.
        radius: of a ball.
        n: how many.

    Returns:
        [n] long.
    """
    nodes = normalize(features)
    source, target = _edges(nodes, radius)
    covered = torch.zeros(len(nodes), dtype=torch.bool)
    chosen = []
    for _ in range(n):
        degree = torch.bincount(source, minlength=len(nodes))
        best = int(degree.argmax())
        covered[target[source == best]] = True
        keep = ~covered[target]
        source, target = source[keep], target[keep]
        chosen.append(best)
    return torch.tensor(chosen)


def _edges(nodes: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Every pair closer than the radius, an item with itself included."""
    sources, targets = [], []
    for start in range(0, len(nodes), ROWS):
        near = torch.cdist(nodes[start : start + ROWS], nodes) < radius
        source, target = near.nonzero(as_tuple=True)
        sources.append(source + start)
        targets.append(target)
    return torch.cat(sources), torch.cat(targets)


def typiclust(features: Tensor, n: int, seed: int) -> Tensor:
    """Take the most typical item of each of n clusters, the largest cluster first.

    Args:
        features: [N, D].
        n: how many, and how many clusters (500 at most, then they are visited in turn).
        seed: of scikit-learn's k-means, in mini-batches beyond 50 clusters, as published.

    Returns:
        [n] long.
    """
    clusters = min(n, MAX_CLUSTERS)
    if clusters <= 50:
        assigned = KMeans(clusters, random_state=seed, n_init=1).fit_predict(features.numpy())
    else:
        grouping = MiniBatchKMeans(clusters, batch_size=5_000, random_state=seed, n_init=1)
        assigned = grouping.fit_predict(features.numpy())
    cluster = torch.from_numpy(assigned).long()
    sizes = cluster.bincount(minlength=clusters)
    order = sizes.argsort(descending=True)
    order = order[sizes[order] > min(SMALLEST, int(sizes.max()) - 1)]
    free = torch.ones(len(features), dtype=torch.bool)
    chosen = []
    for step in range(n):
        members = ((cluster == order[step % len(order)]) & free).nonzero().squeeze(1)
        best = members[_typicality(features[members]).argmax()]
        free[best] = False
        chosen.append(best)
    return torch.stack(chosen)


def _typicality(members: Tensor) -> Tensor:
    """Inverse mean squared distance to the nearest neighbours, as the released code takes it."""
    count = min(NEIGHBOURS, len(members) // 2)
    near = torch.cdist(members, members).square().topk(count + 1, largest=False).values
    return 1 / (near.sum(1) / max(count, 1) + 1e-5)
