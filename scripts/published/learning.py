"""Claims 4 to 7, 9, 12 and 13: learning curves, judged by direction and by half of the effect."""

import numpy as np
import pandas as pd
from published.claim import Finding, NotRunError, Options, judge
from published.sweeps import cifar10, finished, need

from dal.analysis.labels_to_target import show_labels
from dal.analysis.statistics import at_budget, aubc, curves, label_range
from dal.analysis.summary import summarise


def uncertainty_wins(options: Options) -> Finding:
    """Claim 4: margin and BALD need about half of random's labels to 90 % on MNIST."""
    need(options, "MNIST/raw")
    protocol = ["experiment=mnist_200", "seed=0,1,2"]
    if options.quick:
        protocol += ["strategy=random,margin", "rounds=6", "pool_subset=800", "steps=120"]
    else:
        protocol += ["strategy=random,margin,bald"]
    rounds = finished(options, "claim_4", *protocol)
    table = compared(rounds, 0.9)
    others = table.drop("random")
    above = least_differences(rounds)
    size = (others["final_mean"] - table.loc["random", "final_mean"]).min() >= 0.025
    if not options.quick:
        size &= saved(others, 0.75)
    return Finding(told(table, 0.9), judge(direction=above.min() > 0, size=bool(size)))


def dbal_table(options: Options) -> Finding:
    """Claim 5: labels to 10 % error with Gal's network, the same pool and seed for all."""
    need(options, "MNIST/raw")
    protocol = ["experiment=gal2017_mnist"]
    if options.device == "cuda":
        protocol += ["strategy=random,bald,variation_ratios,entropy", "seed=0,1,2", "rounds=28"]
    else:
        protocol += ["strategy=random,bald,variation_ratios", "seed=0", "test_posterior=false"]
        sizes = ["rounds=4", "steps=50"] if options.quick else ["rounds=23", "steps=150"]
        protocol += [*sizes, "posterior.samples=50"]
    table = compared(finished(options, "claim_5", *protocol), 0.9)
    others, needed = table.drop("random"), table["labels_to_0.9"]
    direction = (needed.drop("random") < needed["random"]).all()
    if options.quick and not np.isfinite(needed).any():
        raise NotRunError(f"too short to get there: {told(table, 0.9)}")
    return Finding(told(table, 0.9), judge(direction=bool(direction), size=saved(others, 0.8)))


def joint_batches(options: Options) -> Finding:
    """Claim 6: BatchBALD is above BALD at batches of 10 on MNIST."""
    need(options, "MNIST/raw")
    if options.device == "cuda":
        protocol = ["experiment=batchbald_mnist"]
    else:
        protocol = ["experiment=mnist_200", "posterior.samples=100", "pool_subset=1000"]
        protocol += ["rounds=2", "steps=50"] if options.quick else ["rounds=8"]
    protocol += ["strategy=bald,batch_bald", "seed=0,1,2"]
    rounds = finished(options, "claim_6", *protocol)
    table = compared(rounds, 0.9, reference="bald")
    gained = difference_at(rounds, "batch_bald", "bald", 100)
    area = table.loc["batch_bald", "aubc_diff"]
    return Finding(
        f"{told(table, 0.9)}; BatchBALD - BALD at 100 labels {100 * gained:+.1f} pts",
        judge(direction=bool(area > 0), size=gained >= 0.0175),
    )


def repeated_images(options: Options) -> Finding:
    """Claim 7: on repeated images BALD falls below random, and BatchBALD does not."""
    table = on_repeated_images(options)
    last = table["final_mean"]
    bald, joint = last["bald"] - last["random"], last["batch_bald"] - last["random"]
    return Finding(
        f"accuracy at {table['labels_high'].iloc[0]:g} labels: {listed(last)}",
        judge(direction=bald < 0 < joint, size=bald <= -0.0265 and joint >= 0.013),
    )


def on_repeated_images(options: Options) -> pd.DataFrame:
    """Summarise the runs of claim 7, which claim 8 looks at too."""
    need(options, "MNIST/raw")
    protocol = ["experiment=repeated_mnist", "strategy=random,bald,power_bald,batch_bald"]
    if options.device == "cuda":
        protocol[0] = "experiment=batchbald_repeated_mnist"
        protocol += ["scenario.redundant.repeats=5", "rounds=18"]
    if options.quick:
        protocol += ["rounds=2", "steps=50"]
    return compared(finished(options, "claim_7", *protocol, "seed=0,1,2"), 0.9)


def fashion(options: Options) -> Finding:
    """Claim 9: entropy, BADGE and k-centre are above random on Fashion-MNIST."""
    need(options, "FashionMNIST/raw")
    rounds = finished(
        options,
        "claim_9",
        "experiment=cdalbench_fashion_mnist",
        "strategy=random,entropy,badge,coreset",
        "seed=range(5)",
    )
    gained = {
        name: difference_at(rounds, name, "random", 5000)
        for name in ("entropy", "badge", "coreset")
    }
    return Finding(
        "at 5,000 labels above random: "
        + ", ".join(f"{name} {100 * value:+.1f} pts" for name, value in gained.items()),
        judge(
            direction=min(gained.values()) > 0,
            size=gained["entropy"] >= 0.0105 and gained["badge"] >= 0.0099,
        ),
    )


def low_budget_images(options: Options) -> Finding:
    """Claim 12: typicality on self-supervised features of CIFAR-10 is far above random."""
    rounds = finished(
        options,
        "claim_12",
        "experiment=typiclust_cifar10",
        *cifar10(options),
        "features.epochs=50",
        "strategy=random,typiclust",
        "seed=range(5)",
    )
    gained = float(compared(rounds, 0.5).loc["typiclust", "aubc_diff"])
    return Finding(
        f"TypiClust {100 * gained:+.1f} pts above random over the curve, features of 50 epochs",
        judge(direction=gained > 0, size=gained >= 0.032),
    )


def realistic(options: Options) -> Finding:
    """Claim 13: at the low budget entropy is below random, and BADGE is beside it."""
    rounds = finished(
        options,
        "claim_13",
        "experiment=realistic_al_cifar10",
        *cifar10(options),
        "strategy=random,entropy,badge",
        "seed=12345,12346,12347",
    )
    table = compared(rounds, 0.5)
    area = table["aubc_mean"]
    return Finding(
        f"AUBC {listed(area)}",
        judge(
            direction=area["entropy"] < area["random"],
            size=area["random"] - area["entropy"] >= 0.02
            and abs(area["badge"] - area["random"]) <= 0.02,
        ),
    )


def compared(rounds: pd.DataFrame, target: float, reference: str = "random") -> pd.DataFrame:
    """Summarise the one setting of a sweep: index strategy."""
    return summarise(rounds, reference=reference, targets=[target]).set_index("strategy")


def saved(others: pd.DataFrame, share: float) -> bool:
    """Say whether all need at most this share of the labels; one that never gets there does not."""
    known = others["saving_bound_0.9"] != "at least"
    return bool((known & (others["saving_0.9"] <= share)).all())


def least_differences(rounds: pd.DataFrame, reference: str = "random") -> pd.Series:
    """Smallest paired difference of areas from the reference, of each other strategy."""
    labels = label_range(rounds)
    areas = {name: aubc(curves(part), labels) for name, part in rounds.groupby("strategy")}
    others = areas.pop(reference)
    return pd.Series({name: (area - others).min() for name, area in areas.items()})


def difference_at(rounds: pd.DataFrame, ours: str, theirs: str, budget: float) -> float:
    """Mean paired difference of accuracy at a budget, or at the last if that is less."""
    budget = min(budget, label_range(rounds)[1])
    heights = {
        name: at_budget(curves(rounds[rounds["strategy"] == name]), budget)
        for name in (ours, theirs)
    }
    return float((heights[ours] - heights[theirs]).mean())


def told(table: pd.DataFrame, target: float) -> str:
    """Say labels to a target, area and last accuracy of each strategy."""
    seeds = table["n_seeds"].min()
    needed = ", ".join(
        f"{name} {show_labels(row[f'labels_to_{target:g}'])}" for name, row in table.iterrows()
    )
    last = f"accuracy at {table['labels_high'].iloc[0]:g}: {listed(table['final_mean'])}"
    area = f"AUBC {listed(table['aubc_mean'])}"
    return f"labels to {target:.0%}: {needed}; {area}; {last} ({seeds} seeds)"


def listed(values: pd.Series) -> str:
    """Write names and values, three decimals."""
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())
