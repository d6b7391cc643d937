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
# # What each strategy picks
# One pool in two dimensions, one network trained on six labels, and every strategy of
# `conf/strategy` asked for ten more. The pool has three classes: two that touch, and a third with a
# small dense cluster beside it; a few outliers lie around.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch import seed_everything

import dal
from dal.acquisition import query
from dal.callbacks.acquire import Acquire
from dal.data.data import Data, Normalise, TensorRows
from dal.data.datamodule import ActiveDataModule
from dal.loop import PLAIN_TRAINER
from dal.models.classifier import Classifier
from dal.models.networks import mlp
from dal.posteriors.mc_dropout import MCDropout
from dal.quiet import quiet_lightning
from dal.strategies.learning_loss import learning_loss

seed_everything(0, verbose=False)
CENTRES = torch.tensor([[-2.0, 0.0], [0.6, 0.4], [1.5, 3.2], [-1.6, 3.0]])
SPREADS, SIZES, CLASSES = [0.8, 0.8, 0.6, 0.15], [150, 150, 100, 40], [0, 1, 2, 2]
blobs = [
    centre + spread * torch.randn(size, 2)
    for centre, spread, size in zip(CENTRES, SPREADS, SIZES, strict=True)
]
targets = torch.repeat_interleave(torch.tensor(CLASSES), torch.tensor(SIZES))
outliers = torch.rand(15, 2) * 9 - torch.tensor([5.0, 3.0])
nearest = torch.cdist(outliers, CENTRES).argmin(1)
points = torch.cat([*blobs, outliers])
targets = torch.cat([targets, torch.tensor(CLASSES)[nearest]])
pool = Data(TensorRows(points, targets), TensorRows(points, targets), ("a", "b", "c"), Normalise())

# %% [markdown]
# ## The network
# It is trained once; all strategies see its predictions, its samples by MC dropout, and the points
# themselves as features. (Those that need its last layer take its own features, and `learning_loss`
# what a second module learnt beside it.)

# %%
data = ActiveDataModule(pool, initial="balanced", initial_size=6, steps=300, batch_size=16)
network = Classifier(mlp((2,), 3, width=64, dropout=0.3), 3)
acquire = Acquire(learning_loss, n=10)
with quiet_lightning():
    PLAIN_TRAINER(max_epochs=1, accelerator="cpu", callbacks=[acquire]).fit(
        network, datamodule=data
    )

axis = torch.linspace(-5.5, 4.5, 120)
grid = torch.cartesian_prod(axis, axis + 1)
with torch.no_grad():
    shares = network.eval()(grid).softmax(1).view(120, 120, 3).transpose(0, 1)


def draw(place, title, picks=()):
    place.imshow(0.55 + 0.45 * shares, origin="lower", extent=(-5.5, 4.5, -4.5, 5.5))
    place.scatter(*points.T, s=2, color="0.35", linewidths=0)
    place.scatter(*points[data.pool.labelled].T, s=28, color="black", marker="s")
    if len(picks):
        place.scatter(*points[picks].T, s=30, color="red", edgecolors="white", linewidths=0.8)
    place.set_title(title, fontsize=9)
    place.set_xticks([])
    place.set_yticks([])


figure, place = plt.subplots(figsize=(5, 5))
draw(place, "pool, labels (squares) and predictions (colours)")
plt.show()

# %% [markdown]
# ## Ten picks of each
# Uncertainty stays where the colours meet, and piles up there; geometry goes to the corners
# (`coreset`), to the middles of clusters (`typiclust`) or covers by balls (`prob_cover`); the
# hybrids do some of both. No picture says which of them makes the better model: that hangs on the
# budget, and a sweep with `python scripts/report.py` tells.

# %%
conf = Path(dal.__file__).parents[1] / "conf"
files = (conf / "strategy").glob("*.yaml")
names = sorted(file.stem for file in files if "\n_target_" in "\n" + file.read_text())
columns = 6
rows = -(-len(names) // columns)
figure, places = plt.subplots(rows, columns, figsize=(2.1 * columns, 2.3 * rows))
for place in places.flat:
    place.axis("off")
with initialize_config_dir(str(conf), version_base="1.3"):
    for name, place in zip(names, places.flat, strict=False):
        config = compose("config", overrides=[f"strategy={name}"])
        asked = query(
            instantiate(config.strategy, _convert_="all"),
            10,
            model=network,
            data=data,
            posterior=MCDropout(samples=20),
            score=instantiate(config.get("score"), _convert_="all"),
            features=points,
            losses=acquire.losses,
        )
        place.axis("on")
        draw(place, name, asked.indices)
figure.tight_layout()
plt.show()
