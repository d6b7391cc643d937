"""Points of every kind that distances must survive."""

import torch

KINDS = ["random", "clusters", "identical", "collinear", "tiny", "huge", "far", "one outlier"]


def gaussian(seed, *shape):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def points(kind, rows, width, seed=0, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.randn(rows, width, generator=rng, dtype=torch.float64)
    middles = 6 * torch.randn(4, width, generator=rng, dtype=torch.float64)
    made = {
        "random": drawn,
        "clusters": middles[torch.arange(rows) % 4] + 0.3 * drawn,
        "identical": drawn[:1].expand(rows, -1).clone(),
        "collinear": torch.arange(rows).double().unsqueeze(1) * drawn[:1],
        "tiny": 1e-12 * drawn,
        "huge": 1e15 * drawn,
        "far": 1000 + drawn,
        "one outlier": torch.cat([drawn[1:], 100 * drawn[:1]]),
    }
    return made[kind].to(dtype)
