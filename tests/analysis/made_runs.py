"""Tables of rounds as run directories give them, with accuracies that a test chooses."""

import pandas as pd

METRIC = "test/accuracy"


def rounds(heights, budgets=(20, 30, 40), *, setting=("default", "digits", "cnn")):
    """Rounds of {strategy: {seed: accuracies}}; a shorter list is a run that ended early."""
    rows = [
        (*setting, strategy, seed, number, budget, height)
        for strategy, seeds in heights.items()
        for seed, curve in seeds.items()
        for number, (budget, height) in enumerate(zip(budgets, curve, strict=False))
    ]
    names = ["experiment", "dataset", "model", "strategy", "seed", "round", "n_labelled", METRIC]
    return pd.DataFrame(rows, columns=names)


def seeds(*curves):
    return dict(enumerate(curves))
