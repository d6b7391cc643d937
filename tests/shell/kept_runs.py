"""Runs in a folder whose rounds take no training."""

import torch

from dal.data.data import Data, Normalise, TensorRows
from dal.data.datamodule import ActiveDataModule
from dal.run_directory import RunDirectory

CONFIG = {"seed": 0, "nested": {"width": 16, "shape": (1, 2), "rate": 1e-5}, "same": [{}, {}]}


def rows(count, seed, classes=3):
    generator = torch.Generator().manual_seed(seed)
    return TensorRows(torch.randn(count, 4, generator=generator), torch.arange(count) % classes)


def toy_data(train=None, test=None, classes="abc", **options):
    parts = (train or rows(40, 0), test or rows(9, 1))
    return Data(*parts, tuple(classes), Normalise(), **options)


def module(data=None):
    return ActiveDataModule(data or toy_data(), initial_size=2, val_size=5)


def play(directory, data, records, last=False):
    """Finish one more round of a run, without any training."""
    bought = [] if last else data.pool.unlabelled[:2].tolist()
    record = {
        "round": len(records),
        "n_labelled": data.n_labelled,
        "labels_used": data.labels_used,
        "n_pool": data.pool.n_unlabelled,
        "test/accuracy": 0.5,
        "train/loss": None,
        "acquired": bought,
        "acquired_labels": data.label(bought).tolist() if bought else [],
        "scores": [0.5, 1] if bought else None,
    }
    directory.commit(record, data, weights(len(records)))
    records.append(record)
    return record


def weights(round):
    return {"layer.weight": torch.full((3, 2), float(round))}


def continued(path, rounds=0, config=CONFIG, data=None):
    """Take a run up and finish more rounds; give it, its data and its records."""
    directory, data = RunDirectory(path), module(data)
    with directory.hold():
        records = directory.resume(data, config)
        for _ in range(rounds):
            play(directory, data, records)
    return directory, data, records


def contents(path):
    return {file: file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
