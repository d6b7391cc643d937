# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Active learning in thirty lines
# The experiment of `python train.py strategy=bald`, from Python and without Hydra: 20 labelled
# digits to start with, then BALD asks for 10 more in each of six rounds.

# %%
from dal.callbacks.progress import ProgressLog
from dal.data.datamodule import ActiveDataModule
from dal.data.digits import digits
from dal.loop import run_rounds
from dal.models.classifier import Classifier
from dal.models.networks import cnn
from dal.posteriors.mc_dropout import MCDropout
from dal.strategies.bald import bald
from dal.strategies.random import random

SHAPE, CLASSES = (1, 8, 8), 10


def experiment(strategy, rounds=6):
    data = ActiveDataModule(digits(), initial="balanced", initial_size=20, steps=200, seed=0)
    return data, run_rounds(
        data,
        model=lambda: Classifier(cnn(SHAPE, CLASSES), CLASSES),
        strategy=strategy,
        posterior=MCDropout(samples=20),
        rounds=rounds,
        query_size=10,
        logs=[ProgressLog(strategy.__name__)],
    )


data, records = experiment(bald)

# %% [markdown]
# ## Was it worth it?
# The same model, start and seeds with labels bought at random.

# %%
import matplotlib.pyplot as plt

_, baseline = experiment(random)
for name, run in (("bald", records), ("random", baseline)):
    plt.plot([r["n_labelled"] for r in run], [r["test/accuracy"] for r in run], "o-", label=name)
plt.xlabel("labelled digits")
plt.ylabel("test accuracy")
plt.legend()
plt.show()

# %% [markdown]
# ## Which digits did BALD ask for?
# One row per round, best first, with the label that the oracle gave. They are the digits that the
# networks drawn by dropout are each sure of, but disagree about.

# %%
bought = [record for record in records if record["acquired"]]
figure, axes = plt.subplots(len(bought), 10, figsize=(10, 1.1 * len(bought)))
for row, record in zip(axes, bought, strict=True):
    asked = zip(row, record["acquired"], record["acquired_labels"], strict=True)
    for axis, index, label in asked:
        axis.imshow(data.data.thumbnail(index)[0], cmap="gray_r")
        axis.set_title(label, fontsize=9)
        axis.axis("off")
plt.show()
