"""Run directories as runs leave them, with what a test chooses."""

import json

import yaml

CONFIG = {"rounds": 2, "query_size": 2, "steps": 5, "strategy": {"_target_": "x.random"}}


def record(number, accuracy, bought, labels=None, **more):
    """One round of a run that starts from 4 labels and buys 2 a round."""
    return {
        "round": number,
        "n_labelled": 4 + 2 * number,
        "n_pool": 96 - 2 * number,
        "test/accuracy": accuracy,
        "train_seconds": 1.0,
        "acquisition_seconds": 0.5 if bought else 0.0,
        "test_seconds": 0.1,
        "acquired": list(bought),
        "acquired_labels": [0] * len(bought) if labels is None else labels,
        **more,
    }


def finished(*accuracies, bought=((10, 11), (12, 13)), labels=None):
    """The rounds of a run that made its purchases; the last buys nothing."""
    bought = [*bought[: len(accuracies) - 1], ()]
    labels = [*labels, []] if labels else [None] * len(bought)
    rows = enumerate(zip(accuracies, bought, labels, strict=True))
    return [record(number, *row) for number, row in rows]


def write(folder, records, *, tail="", config=None):
    """Write a run directory; `config` are settings other than the usual."""
    (folder / "state").mkdir(parents=True)
    name, seed = folder.parts[-4], int(folder.name.removeprefix("seed="))
    settings = CONFIG | {"name": name, "seed": seed} | (config or {})
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    lines = "".join(json.dumps(one) + "\n" for one in records)
    (folder / "rounds.jsonl").write_text(lines + tail)
    return folder


def sweep(root, strategies, *, setting="default/digits-cnn", seeds=5):
    """Write runs of {strategy: accuracies}; seeds differ by a little."""
    for place, (strategy, accuracies) in enumerate(strategies.items()):
        for seed in range(seeds):
            apart = [value + 0.01 * ((seed + place) % 3) for value in accuracies]
            bought = [(10 * place + seed, 90 - place), (40 + seed, 41 + seed)]
            records = finished(*apart, bought=bought, labels=[[0, 1], [place % 3, 2]])
            write(root / setting / strategy / f"seed={seed}", records)
