"""Pools to choose from: Gaussian clusters, and what a small network makes of digits.

Both are needed. Clusters far apart are the easy case of every bound; the features of a trained
network lie close to a plane of few dimensions, and its head is surer.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

CENTRES, NOISE = 50, 0.5
CONFIDENCE = 0.55  # mean largest probability of a head on Gaussian clusters
OVERCONFIDENT = 0.97
ROWS = 8_192  # at once
SETS = ("gaussian", "learned", "confident")


@dataclass(frozen=True)
class Pool:
    """Features of a pool and of labelled items, and a last layer.

    Args:
        name: of the data set.
        features: [N, D].
        labelled: [M, D].
        weight: [D, C]; the last layer, which has no bias.
    """

    name: str
    features: Tensor
    labelled: Tensor
    weight: Tensor

    def probs(self) -> Tensor:
        """Predictive probabilities [N, C] of the pool."""
        return torch.cat([(rows @ self.weight).softmax(1) for rows in self.features.split(ROWS)])

    def samples(self, items: int, samples: int) -> Tensor:
        """Log-probabilities [items, K, C] under K dropout masks on the features."""
        generator = torch.Generator(self.weight.device).manual_seed(2)
        width, classes = self.weight.shape
        like = self.weight.new_empty(samples, width, 1)
        masks = like.bernoulli_(0.5, generator=generator).mul_(2)
        heads = (masks * self.weight).transpose(0, 1).flatten(1)  # [D, K·C]
        out = self.weight.new_empty(items, samples, classes)
        for start in range(0, items, ROWS):
            part = slice(start, min(start + ROWS, items))
            logits = (self.features[part] @ heads).unflatten(1, (samples, classes))
            out[part] = logits.log_softmax(2)
        return out


def pool_of(
    name: str, *, rows: int, labelled: int, width: int, classes: int, steps: int, device: str
) -> Pool:
    """Build a pool of one of SETS.

    Args:
        name: `gaussian`; `learned` for the network's features; `confident` for these with the
            head's weights scaled up to a mean confidence of 0.97.
        rows: N.
        labelled: M.
        width: D.
        classes: C; the network's own head has ten, of more classes it is a random one.
        steps: of the network's training.
        device: where the tensors are.
    """
    if name == "gaussian":
        return _gaussian(rows, labelled, width, classes, device)
    features, weight = _learned(rows + labelled, width, steps)
    if classes != weight.shape[1]:
        weight = _head(features, classes)
    made = Pool(name, features[:rows].to(device), features[rows:].to(device), weight.to(device))
    if name == "confident":
        made = replace(made, weight=_scaled(made.features, made.weight, OVERCONFIDENT))
    return made


def tall_probs(pool: Pool, rows: int) -> Tensor:
    """Probabilities [rows, C] of the pool's items drawn again, each logit with a little noise."""
    generator = torch.Generator(pool.weight.device).manual_seed(3)
    count, classes = len(pool.features), pool.weight.shape[1]
    out = pool.weight.new_empty(rows, classes)
    for part in torch.arange(rows, device=pool.weight.device).split(ROWS):
        logits = pool.features[part % count] @ pool.weight
        noise = torch.empty_like(logits).normal_(generator=generator)
        out[part] = (logits + 0.1 * noise).softmax(1)
    return out


@lru_cache(maxsize=1)
def _gaussian(rows: int, labelled: int, width: int, classes: int, device: str) -> Pool:
    generator = torch.Generator(device).manual_seed(0)
    centres = torch.randn(CENTRES, width, generator=generator, device=device)
    count = rows + labelled
    cluster = torch.randint(CENTRES, (count,), generator=generator, device=device)
    features = torch.empty(count, width, device=device).normal_(generator=generator).mul_(NOISE)
    for part in torch.arange(count, device=device).split(ROWS):
        features[part] += centres[cluster[part]]
    return Pool("gaussian", features[:rows], features[rows:], _head(features, classes))


def _head(features: Tensor, classes: int) -> Tensor:
    """Random last layer [D, C] of the confidence wanted."""
    generator = torch.Generator(features.device).manual_seed(1)
    weight = torch.randn(features.shape[1], classes, generator=generator, device=features.device)
    return _scaled(features, weight, CONFIDENCE)


def _scaled(features: Tensor, weight: Tensor, confidence: float) -> Tensor:
    """The weight times the factor at which the mean largest probability is as wanted."""
    logits = features[: 4 * ROWS : 4] @ weight
    low, high = 1e-4, 1e4
    for _ in range(40):
        middle = (low * high) ** 0.5
        reached = (logits * middle).softmax(1).amax(1).mean()
        low, high = (middle, high) if reached < confidence else (low, middle)
    return weight * high


@lru_cache(maxsize=1)
def _learned(rows: int, width: int, steps: int) -> tuple[Tensor, Tensor]:
    """Features [rows, width] of a two-layer network on shifted, noisy digits, and its head."""
    generator = torch.Generator().manual_seed(0)
    digits = load_digits()
    images = torch.nn.functional.pad(torch.tensor(digits.images).float() / 16, (1, 1, 1, 1))
    index = torch.randint(len(images), (rows,), generator=generator)
    shift = torch.randint(3, (rows, 2, 1), generator=generator) + torch.arange(8)  # [rows, 2, 8]
    down, right = shift[:, 0, :, None], shift[:, 1, None, :]
    inputs = images[index[:, None, None], down, right].flatten(1)  # [rows, 64]
    inputs += 0.15 * torch.empty_like(inputs).normal_(generator=generator)
    labels = torch.tensor(digits.target)[index]
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        head = nn.Linear(width, 10, bias=False)
    parameters = [*body.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    for _ in range(steps):
        batch = torch.randint(rows, (256,), generator=generator)
        loss = nn.functional.cross_entropy(head(body(inputs[batch])), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        features = torch.cat([body(part) for part in inputs.split(ROWS)])
    return features, head.weight.detach().T.contiguous()
