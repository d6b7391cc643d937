"""Bad input of every kind is one line, and a run that stands in the directory loses nothing."""

import math
import shutil
import sys
from pathlib import Path

import bad_files as bad
import numpy as np
import pytest
import torch

RUN = ["rounds=1", "steps=1", "logger=csv"]
ROWS = ["dataset=tensors", "dataset.path=rows.pt", "model=mlp"]
ARCHIVE = ["dataset=tensors", "dataset.path=rows.npz", "model=mlp"]
FOLDER = ["dataset=image_folder", "data_dir=data", "dataset.size=8"]
MNIST = ["dataset=mnist", "data_dir=data"]
GIVEN = ["strategy=coreset", "features=frozen"]

SETTINGS = {
    "an unknown key": (["querysize=3"], "querysize is unknown; did you mean query_size?"),
    "an added unknown key": (["+querysize=3"], "querysize is unknown; did you mean query_size?"),
    "an unknown nested key": (["posterior.sample=3"], "did you mean posterior.samples?"),
    "an added nested key": (["+posterior.sample=3"], "did you mean posterior.samples?"),
    "a keyword without a plus": (["trainer.max_steps=5"], "add it by +trainer.max_steps=..."),
    "an option in a list": (["stopping=[budgett]"], "did you mean budget?"),
    "not chosen": (["stopping.budget.limit=4"], "is not chosen; add stopping=budget"),
    "an unknown option": (["strategy=bal"], "did you mean bald?"),
    "an unknown group": (["stratgy=bald"], "did you mean strategy?"),
    "no key=value": (["rounds"], "is no key=value"),
    "open brackets": (["initial=[1,2"], "is no key=value"),
    "a sweep that is none": (["seed=1,2"], "add --multirun"),
    "a count in words": (["query_size=ten"], "query_size must be a whole number"),
    "a count of no": (["rounds=-1"], "rounds must be a whole number of at least 0, got -1"),
    "a count that is a float": (["steps=1e3"], "steps must be a whole number of at least 1"),
    "a count that is true": (["num_workers=true"], "num_workers must be a whole number"),
    "a count in quotes": (["batch_size='3'"], "got '3'"),
    "a count of null": (["rounds=null"], "rounds must be a whole number"),
    "a count of infinity": (["query_size=inf"], "query_size must be a whole number"),
    "a list of counts": (["seed=[1,2]"], "seed must be a whole number"),
    "no optimiser steps": (["steps=0"], "steps must be a whole number of at least 1, got 0"),
    "no batches": (["batch_size=0"], "batch_size must be a whole number of at least 1, got 0"),
    "checkpoints every 0 steps": (["checkpoint.every_n_steps=0"], "checkpoint.every_n_steps must"),
    "a rate of 0": (["optimizer.lr=0"], "optimizer.lr must be a finite number above 0, got 0"),
    "a rate of NaN": (["optimizer.lr=nan"], "optimizer.lr must be a number, got nan"),
    "an infinite rate": (["optimizer.lr=inf"], "optimizer.lr must be a finite number above 0"),
    "a rate of null": (["optimizer.lr=null"], "optimizer.lr must be a number, got null"),
    "a negative decay": (["optimizer.weight_decay=-1"], "Invalid weight_decay value: -1"),
    "an optimiser by name": (["optimizer=adam"], "optimizer must name under _target_"),
    "an optimiser that is none": (["optimizer._target_=torch.optim.Adm"], "torch.optim.Adam?"),
    "a scheduler without steps": (
        ["scheduler={_target_:torch.optim.lr_scheduler.StepLR,_partial_:true}"],
        "scheduler.step_size has no value",
    ),
    "an unknown precision": (["trainer.precision=17"], "trainer.precision must be 64, 32,"),
    "an unknown accelerator": (["trainer.accelerator=abacus"], "accelerator='abacus'"),
    "epochs of the trainer": (["+trainer.max_epochs=3"], "trainer.max_epochs cannot be set"),
    "a folder of numbers": (["data_dir=3"], "data_dir must be text, got 3; quote it twice"),
    "no data set": (["dataset=tensors"], "dataset.path has no value; add dataset.path=..."),
    "a key taken away": (["~rounds"], "rounds has no value; add +rounds=..."),
    "no such variable": (["data_dir=${oc.env:NO_SUCH}"], "'NO_SUCH' not found"),
    "an unknown target": (["target=train"], "target must be pool, test or given, got 'train'"),
    "dropout above 1": (["model=mlp", "model.dropout=2"], "model.dropout must lie between 0 and"),
    "a layer of no width": (["model.width=0"], "model.width must be a whole number of at least 1"),
    "a strategy's word": (["strategy=power", "strategy.beta=high"], "beta must be a number"),
    "a strategy's range": (["strategy=power", "strategy.beta=-1"], "strategy.beta must be a"),
    "a part's range": (
        ["strategy=tcm", "strategy.strategies.typical.neighbours=0"],
        "strategy.strategies.typical.neighbours must be",
    ),
    "a subset below the query": (["pool_subset=5"], "pool_subset 5 is below query_size 10"),
    "a query for no room": (["dataset.test_size=5000"], "must lie between 0 and 1797 rows, got"),
}  # fmt: skip
INDICES = {
    "diverse": "initial must be random, balanced or a list of whole numbers",
    "[3,1297]": "must lie between 0 and 1296, got 1297",
    "[-1]": "must lie between 0 and 1296, got -1",
    "[3,3]": "index 3 is given twice",
    "[1.5]": "a list of whole numbers, got [1.5]",
    "[true,false]": "a list of whole numbers, got [True, False]",
    "[a]": "a list of whole numbers, got ['a']",
    "[[1]]": "a list of whole numbers, got [[1]]",
    "7": "a list of whole numbers, got 7",
    "null": "a list of whole numbers, got null",
}
FILES = {
    "truncated": (bad.truncated, ROWS, "rows.pt cannot be read as plain arrays"),
    "empty": (bad.empty, ARCHIVE, "rows.npz cannot be read as plain arrays"),
    "objects": (bad.objects, ARCHIVE, "rows.npz cannot be read as plain arrays"),
    "words": (bad.words, ARCHIVE, "rows.npz cannot be read as plain arrays"),
    "a program": (bad.executable, ROWS, "rows.pt cannot be read as plain arrays"),
    "no dictionary": (bad.no_dictionary, ROWS, "rows.pt cannot be read as plain arrays"),
    "a table": (bad.tensors(), [*ROWS, "dataset.path=train.py"], "no file"),
    "no targets": (bad.tensors(targets=None), ROWS, "must hold inputs and targets, missing"),
    "one target less": (
        bad.tensors(targets=torch.arange(59) % 2), ROWS, "got 60 inputs and targets of shape [59]"
    ),
    "targets in two columns": (
        bad.tensors(targets=torch.zeros(60, 2).long()), ROWS, "targets of shape [60, 2]"
    ),
    "one number as inputs": (bad.tensors(inputs=torch.tensor(1.0)), ROWS, "inputs must be"),
    "inputs without columns": (bad.tensors(inputs=torch.randn(60)), ROWS, "inputs must be"),
    "complex inputs": (
        bad.tensors(inputs=torch.zeros(60, 3, dtype=torch.complex64)), ROWS, "inputs must be"
    ),
    "float targets": (bad.tensors(targets=torch.ones(60)), ROWS, "must be class numbers"),
    "targets of yes and no": (
        bad.tensors(targets=torch.arange(60) % 2 == 1), ROWS, "must be class numbers"
    ),
    "negative targets": (bad.tensors(targets=torch.arange(60) - 1), ROWS, "must be class numbers"),
    "a target outside the classes": (
        bad.tensors(), [*ROWS, "dataset.classes=[cat]"], "target 1 is outside the 1 classes"
    ),
    "one class": (bad.tensors(targets=torch.zeros(60).long()), ROWS, "at least 2 classes"),
    "no rows": (
        bad.tensors(inputs=torch.empty(0, 3), targets=torch.empty(0).long()), ROWS, "got none"
    ),
    "no test rows": (
        bad.tensors(test_inputs=torch.empty(0, 3), test_targets=torch.empty(0).long()),
        ROWS,
        "needs train and test rows, got 60 and 0",
    ),
    "test inputs of another shape": (
        bad.tensors(test_inputs=torch.randn(4, 5), test_targets=torch.arange(4) % 2),
        ROWS,
        "test inputs must have the shape of the others, [3], got [5]",
    ),
    "test inputs without targets": (
        bad.tensors(test_inputs=torch.randn(4, 3)), ROWS, "must hold both test_inputs and test_tar"
    ),
    "a test target outside": (
        bad.tensors(test_inputs=torch.randn(4, 3), test_targets=torch.arange(4)),
        [*ROWS, "dataset.classes=[cat,dog]"],
        "test target 2 is outside the 2 classes",
    ),
    "target inputs of another shape": (
        bad.tensors(target_inputs=torch.randn(4, 5)), ROWS, "target inputs must have the shape"
    ),
    "NaN": (bad.tensors(inputs=bad.rows_with(math.nan)), ROWS, "row 7 of the inputs holds NaN"),
    "infinity": (bad.tensors(inputs=bad.rows_with(math.inf)), ROWS, "row 7 of the inputs holds"),
    "MNIST cut short": (bad.mnist(cut=100), MNIST, "MNIST"),
    "MNIST with labels missing": (bad.mnist(labels=19), MNIST, "got 20 inputs"),
    "another CIFAR": (bad.cifar_of_another, ["dataset=cifar10", "data_dir=data"], "CIFAR10"),
    "no picture": (bad.broken_picture, FOLDER, "dog/2.png"),
    "no folder": (lambda: None, FOLDER, "dataset.root: no folder"),
    "a class of no pictures": (bad.empty_class, FOLDER, "holds no image"),
    "a folder of one class": (
        bad.pictures(*(f"data/cat/{n}.png" for n in range(9))), FOLDER, "at least 2 classes"
    ),
    "a class for testing alone": (
        bad.pictures("data/train/cat/0.png", "data/test/dog/0.png"), FOLDER, "classes that train"
    ),
    "features of other rows": (
        bad.embeddings(np.zeros((5, 4))), [*GIVEN, "features.path=embeddings.npy"],
        "one row per train item, [1297, D], got [5, 4]",
    ),
    "features of NaN": (
        bad.embeddings(np.full((1297, 4), np.nan)), [*GIVEN, "features.path=embeddings.npy"],
        "must not hold NaN",
    ),
    "features that are objects": (
        bad.embeddings(np.array([{}] * 1297)), [*GIVEN, "features.path=embeddings.npy"],
        "cannot be read",
    ),
    "features that execute": (
        bad.embeddings(bad.Malicious(), "embeddings.pt"), [*GIVEN, "features.path=embeddings.pt"],
        "cannot be read",
    ),
}  # fmt: skip
ORACLES = {
    "out of range": ("indices * 0 + 10", "must give labels from 0 to 9, got 10"),
    "negative": ("indices * 0 - 1", "must give labels from 0 to 9, got -1"),
    "too few": ("indices[1:] * 0", "must give a label for each of 20 rows"),
    "too many": ("torch.cat([indices, indices]) * 0", "must give a label for each of 20 rows"),
    "floats": ("indices * 0.5", "must give labels as a tensor of whole"),
    "a table": ("indices[:, None] * 0", "must give a label for each of 20 rows"),
    "a list with None": ("[None] * len(indices)", "must give labels as a tensor of whole"),
    "none": ("None", "must give labels as a tensor of whole"),
    "an error": ("indices.no_such", "no_such"),
}
STATES = {
    "another seed": (lambda kept: None, ["seed=1"], "seed (0 -> 1)"),
    "a line that is no JSON": (
        lambda kept: (kept / "rounds.jsonl").write_text("nonsense\n" * 2), [], "rounds.jsonl"
    ),
    "a pool that is cut": (
        lambda kept: (kept / "state/pool.json").write_text("{"), [], "pool.json"
    ),
    "a configuration that is no YAML": (
        lambda kept: (kept / "config.yaml").write_text("{["), [], "config.yaml"
    ),
    "a configuration that builds": (
        lambda kept: (kept / "config.yaml").write_text("!!python/object/apply:os.mkdir [executed]"),
        [],
        "config.yaml",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("finished") / "kept"


@pytest.fixture
def kept(train, folder, place):
    """A finished run of one purchase in the directory `kept`."""
    if not place.exists():
        ended = train("hydra.run.dir=kept", *RUN)
        assert ended.code == 0, ended.err
        shutil.copytree("kept", place)
    shutil.copytree(place, "kept", dirs_exist_ok=True)
    return Path("kept")


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def refused(train, kept, arguments, said):
    before = content(kept)
    ended = train("hydra.run.dir=kept", *RUN, *arguments)
    lines = ended.err.strip().splitlines()
    assert (ended.code, len(lines)) == (1, 1), ended.err
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert "Traceback" not in ended.out + ended.err
    assert content(kept) == before
    assert not Path(bad.CANARY).exists()


@pytest.mark.parametrize(("arguments", "said"), SETTINGS.values(), ids=SETTINGS)
def test_a_wrong_setting_is_refused(train, kept, arguments, said):
    refused(train, kept, arguments, said)


@pytest.mark.parametrize(("initial", "said"), INDICES.items(), ids=INDICES)
def test_rows_to_start_with_that_are_none_are_refused(train, kept, initial, said):
    refused(train, kept, [f"initial={initial}"], said)


@pytest.mark.parametrize(("write", "arguments", "said"), FILES.values(), ids=FILES)
def test_a_file_that_holds_no_data_is_refused(train, kept, write, arguments, said):
    write()
    refused(train, kept, arguments, said)


@pytest.fixture
def oracle(folder, monkeypatch):
    """Write an oracle that gives the value of an expression, and name it."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "own_oracle", raising=False)

    def write(answer):
        (folder / "own_oracle.py").write_text(
            "import torch\nclass Own:\n    name = 'own'\n    def __init__(self, data): pass\n"
            f"    def __call__(self, indices): return {answer}\n"
        )
        return "oracle._target_=own_oracle.Own"

    return write


@pytest.mark.parametrize(("answer", "said"), ORACLES.values(), ids=ORACLES)
def test_an_answer_that_is_no_label_is_refused(train, kept, oracle, answer, said):
    refused(train, kept, [oracle(answer)], said)


@pytest.mark.parametrize(("damage", "arguments", "said"), STATES.values(), ids=STATES)
def test_a_damaged_run_is_refused(train, kept, damage, arguments, said):
    damage(kept)
    refused(train, kept, arguments, said)
