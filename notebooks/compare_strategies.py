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
# # From run directories to the figures of a paper
# All that is read here is what runs leave behind. If there are none in `runs/`, a few small ones
# are made first: three strategies, three seeds, two networks.

# %%
from pathlib import Path

from dal.data.datamodule import ActiveDataModule
from dal.data.digits import digits
from dal.loop import run_rounds
from dal.models.classifier import Classifier
from dal.models.networks import cnn, mlp
from dal.strategies.entropy import entropy
from dal.strategies.margin import margin
from dal.strategies.random import random

root = Path("runs")
SHAPE, CLASSES = (1, 8, 8), 10
if not root.exists():
    for network in (cnn, mlp):
        for strategy in (random, margin, entropy):
            for seed in range(3):
                run_rounds(
                    ActiveDataModule(digits(), initial_size=20, steps=60, seed=seed),
                    model=lambda network=network: Classifier(network(SHAPE, CLASSES), CLASSES),
                    strategy=strategy,
                    rounds=4,
                    query_size=20,
                    directory=root
                    / f"paper/digits-{network.__name__}/{strategy.__name__}/seed={seed}",
                )

# %% [markdown]
# ## One table of rounds
# A row per run and round. What is missing or unlike is said, and unfinished runs are left out.

# %%
from dal.analysis.runs import read_runs

runs = read_runs(root)
print(*runs.problems, sep="\n")
rounds = runs.finished
rounds.head()

# %% [markdown]
# ## Which strategy, and is the difference real?
# The area under the learning curve, its difference from `random` over paired seeds with a 95 %
# interval, and the p-value of the paired t-test after Holm. Three seeds are too few to claim
# anything: five are needed against random, ten to order strategies.

# %%
from dal.analysis.statistics import warnings_about_seeds
from dal.analysis.tables import make_tables
from dal.analysis.verdict import verdict

tables = make_tables(runs, metric="test/accuracy", targets=[0.8])
print(*warnings_about_seeds(tables.summary), sep="\n")
columns = ["model", "strategy", "n_seeds", "aubc_mean", "aubc_sd", "aubc_diff", "p", "p_holm"]
tables.summary[columns]

# %%
settings = tables.summary[["experiment", "dataset", "model"]].drop_duplicates()
for names in settings.itertuples(index=False, name=None):
    print("/".join(names), verdict(tables.of(names).summary, targets=[0.8]), sep=": ")

# %% [markdown]
# ## Figures, as PDF for a paper

# %%
from IPython.display import Image, display

from dal.analysis.figures import figures_of, figures_over_settings
from dal.analysis.look import Look
from dal.analysis.rendering import render

look = Look([*tables.summary["strategy"].unique()])
names = next(settings.itertuples(index=False, name=None))
mine = rounds[(rounds[[*settings]] == [*names]).all(axis=1)]
drawings = [*figures_of(mine, tables.of(names), look, metric="test/accuracy", folder="paper")]
chosen = {drawing.name: drawing for drawing in [*drawings, *figures_over_settings(tables, look)[0]]}
wanted = ("learning_curves", "differences", "labels_to_target", "critical_difference")
for name in [name for name in wanted if name in chosen]:  # one setting alone has no ranks
    files = render(chosen[name])
    Path(f"{name}.pdf").write_bytes(files["pdf"])
    display(Image(files["png"]))

# %% [markdown]
# `python scripts/report.py runs/ --out report/` writes all figures and tables, and a page that
# shows them.
