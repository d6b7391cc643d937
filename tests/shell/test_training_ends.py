"""A training ends when it gets no better or fits its labels, and a test may look at the mean."""

from types import SimpleNamespace

import kit
import lightning.pytorch as pl
import pytest
import torch
from torch.nn import functional

from dal.callbacks.acquire import Acquire
from dal.callbacks.until_accuracy import UntilAccuracy
from dal.data.datamodule import ActiveDataModule
from dal.loop import PLAIN_TRAINER, run_rounds
from dal.models.classifier import Classifier
from dal.posteriors.deterministic import Deterministic
from dal.posteriors.ensemble import Ensemble
from dal.posteriors.head_dropout import HeadDropout
from dal.posteriors.laplace import Laplace
from dal.posteriors.mc_dropout import MCDropout
from dal.seeding import generator_for
from dal.strategies.learning_loss import learning_loss


class Scripted(Classifier):
    """Its validation measures what it is told, an epoch each."""

    told = (0.5, 0.7, 0.6, 0.7, 0.6, 0.9)

    def __init__(self):
        super().__init__(kit.toy_network(), 3, lambda p: torch.optim.Adam(p, lr=0.05))

    def validation_step(self, batch, batch_idx):
        if not self.trainer.sanity_checking:
            self.log("val/accuracy", self.told[self.current_epoch])
            self.log("val/epoch", float(self.current_epoch))


class Weights(pl.Callback):
    """Notes the weights after each epoch."""

    def __init__(self):
        self.after = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.after.append([value.clone() for value in pl_module.network.parameters()])


def toy_data(val_size=20, seed=0):
    return ActiveDataModule(
        kit.toy_data(), initial_size=30, val_size=val_size, steps=4, batch_size=16, seed=seed
    )


def first(*, features):
    return features[:, 0]


def run(data=None, *own, model=kit.toy_module, strategy=first, trainer=None, rounds=0, **options):
    def make(callbacks=(), **given):
        callbacks = [*callbacks, *own]
        return PLAIN_TRAINER(accelerator="cpu", callbacks=callbacks, **given, **(trainer or {}))

    return run_rounds(
        data or toy_data(), model=model, strategy=strategy, rounds=rounds, query_size=3,
        trainer=make, **options,
    )  # fmt: skip


@pytest.mark.parametrize(("patience", "epochs", "best"), [(1, 3, 1), (3, 5, 1), (4, 6, 5)])
def test_a_training_ends_after_so_many_epochs_no_better_with_the_weights_of_the_best(
    patience, epochs, best
):
    weights, made = Weights(), []

    def model():
        made.append(Scripted())
        return made[-1]

    record, _ = run(None, weights, model=model, epochs=6, patience=patience, rounds=1)
    assert record["train/epochs"] == epochs
    assert record["val/epoch"] == best
    assert record["val/accuracy"] == pytest.approx(Scripted.told[best])
    kept = [*made[0].network.parameters()]
    assert all(torch.equal(*pair) for pair in zip(kept, weights.after[best], strict=True))
    assert not all(torch.equal(*pair) for pair in zip(kept, weights.after[best - 1], strict=True))


def test_the_query_sees_the_best_weights():
    weights, seen = Weights(), []

    def look(*, head, features):
        seen.append(head(torch.eye(features.shape[1])))
        return features[:, 0]

    run(None, weights, model=Scripted, strategy=look, epochs=6, patience=2, rounds=1)
    *_, weight, bias = weights.after[1]
    assert torch.allclose(seen[-1], weight.T + bias)


def test_a_loss_prediction_is_taken_back_with_the_best_weights():
    class Heads(pl.Callback):
        def __init__(self):
            self.after, self.last = [], []

        def on_train_epoch_end(self, trainer, pl_module):
            self.after += weights(trainer)

        def on_train_end(self, trainer, pl_module):
            self.last += weights(trainer)

    def weights(trainer):
        queries = [one for one in trainer.callbacks if isinstance(one, Acquire)]
        return [query.losses.module.last.weight.detach().clone() for query in queries]

    heads, options = Heads(), {"epochs": 6, "patience": 2, "rounds": 1}
    run(None, heads, model=Scripted, strategy=learning_loss, **options)
    (last,) = heads.last
    assert torch.equal(last, heads.after[1])
    assert not torch.equal(last, heads.after[-1])


@pytest.mark.parametrize("ends", [{"until_train_accuracy": 0.99}, {}])
def test_validation_is_of_the_weights_that_are_tested(ends):
    seen = []

    class Checked(Classifier):
        def test_step(self, batch, batch_idx):
            super().test_step(batch, batch_idx)
            rows = self.trainer.datamodule.val_dataloader()
            losses = [functional.cross_entropy(self(x), y, reduction="none") for x, y in rows]
            seen.append(float(torch.cat(losses).mean()))

    def model():
        return Checked(kit.toy_network(), 3, lambda p: torch.optim.Adam(p, lr=0.05))

    trainer = {"check_val_every_n_epoch": 4}
    (record,) = run(None, model=model, epochs=6, trainer=trainer, **ends)
    assert record["val/nll"] == pytest.approx(seen[0])


def test_without_patience_all_epochs_are_trained_and_the_last_weights_stay():
    weights, made = Weights(), []

    def model():
        made.append(Scripted())
        return made[-1]

    (record,) = run(None, weights, model=model, epochs=6)
    assert (record["train/epochs"], record["val/epoch"]) == (6, 5)
    kept = [*made[0].network.parameters()]
    assert all(torch.equal(*pair) for pair in zip(kept, weights.after[-1], strict=True))


def test_patience_without_validation_rows_is_refused_before_anything_is_trained():
    with pytest.raises(ValueError, match=r"patience .*set val_size higher"):
        run(toy_data(val_size=0), model=None, patience=2)


def test_patience_without_a_validation_accuracy_is_refused():
    class Silent(Scripted):
        def validation_step(self, batch, batch_idx):
            self.log("val/nll", 1.0)

    with pytest.raises(ValueError, match=r"logs val/accuracy .*got val/nll"):
        run(model=Silent, patience=2)


def test_patience_without_validation_is_refused():
    with pytest.raises(ValueError, match=r"patience .*trainer\.limit_val_batches"):
        run(trainer={"limit_val_batches": 0}, patience=2)


class Known(Classifier):
    """Predicts as many rows right in each batch of an epoch as it is told."""

    right = (3, 12, 14, 15, 16)

    def forward(self, inputs):
        logits = super().forward(inputs)
        if not self.training:
            return logits
        true = functional.one_hot(self.targets, 3) * 100.0
        shown = torch.arange(len(inputs)) < self.right[self.current_epoch]
        return logits * 0 + torch.where(shown[:, None], true, -true)

    def training_step(self, batch, batch_idx):
        self.targets = batch[1]
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    ("share", "epochs"), [(3 / 16, 1), (0.75, 2), (0.76, 3), (14 / 16, 3), (15.5 / 16, 5), (1, 5)]
)
def test_a_training_ends_with_the_epoch_that_predicts_the_share_right(share, epochs):
    def model():
        return Known(kit.toy_network(), 3)

    (record,) = run(model=model, epochs=5, until_train_accuracy=share)
    assert record["train/epochs"] == epochs


def test_a_training_that_never_fits_its_labels_has_all_its_epochs():
    class Never(Known):
        right = (15,) * 5

    (record,) = run(model=lambda: Never(kit.toy_network(), 3), epochs=5, until_train_accuracy=0.95)
    assert record["train/epochs"] == 5


def test_a_share_of_rows_is_reached_by_just_so_many():
    callback, trainer = UntilAccuracy(0.55), Two()
    callback.load_state_dict({"right": 54, "rows": 100})
    callback.on_train_epoch_end(trainer, None)
    assert not trainer.should_stop
    callback.load_state_dict({"right": 55, "rows": 100})
    callback.on_train_epoch_end(trainer, None)
    assert trainer.should_stop


def test_no_hook_is_left_on_the_module():
    made = []

    def model():
        made.append(kit.toy_module())
        return made[-1]

    run(model=model, until_train_accuracy=0.9, epochs=2)
    assert not made[0]._forward_hooks


def test_a_module_whose_training_step_does_not_call_it_is_refused():
    class Inside(Classifier):
        def training_step(self, batch, batch_idx):
            return functional.cross_entropy(self.network(batch[0]), batch[1])

    with pytest.raises(ValueError, match="until_train_accuracy needs a module"):
        run(model=lambda: Inside(kit.toy_network(), 3), until_train_accuracy=0.9)


class Two:
    """A trainer beside another one that counts the same."""

    should_stop = False
    strategy = SimpleNamespace(reduce=lambda counts, reduce_op: 2 * counts)


def test_a_count_that_goes_on_in_the_middle_of_an_epoch_is_that_of_all_processes():
    first, second, trainer = UntilAccuracy(0.7), UntilAccuracy(0.7), Two()
    labels = torch.tensor([0, 1, 0, 2])
    for callback, logits in ((first, torch.eye(3)[[0, 1, 2, 2]]), (second, torch.eye(3)[[0] * 4])):
        callback.load_state_dict(first.state_dict())
        callback._keep(None, None, logits)
        callback._keep(None, None, torch.tensor(0.3))  # the loss, of the step as a whole
        callback.on_train_batch_end(None, None, None, (None, labels))
        callback.agree(trainer)
    assert first.state_dict() == {"right": 6, "rows": 8}
    assert second.state_dict() == {"right": 6 + 4, "rows": 16}
    second.on_train_epoch_end(trainer, None)
    assert not trainer.should_stop
    first.on_train_epoch_end(trainer, None)
    assert trainer.should_stop


POSTERIORS = [
    MCDropout(5), HeadDropout(5), Laplace(5), Ensemble(3), Ensemble(2, bootstrap=True),
]  # fmt: skip


@pytest.mark.parametrize("posterior", POSTERIORS, ids=lambda posterior: type(posterior).__name__)
def test_the_mean_prediction_of_the_samples_is_tested(posterior):
    made, data = [], toy_data()

    def model():
        made.append(Classifier(kit.toy_network(), 3, lambda p: torch.optim.Adam(p, lr=0.05)))
        return made[-1]

    (record,) = run(data, model=model, posterior=posterior, test_posterior=True)
    module = made[0]
    assert "forward" not in vars(module)
    inputs, targets = data.data.test.inputs, data.data.test.targets
    generator = generator_for(data.seed, "masks", 0)
    with posterior.draw(module, generator, [*data.labelled_dataloader()]) as predict:
        probs = predict(inputs).log_probs.exp().mean(1)
    assert record["test/accuracy"] == pytest.approx(
        float((probs.argmax(1) == targets).double().mean())
    )
    nll = functional.nll_loss(probs.log(), targets)
    assert record["test/nll"] == pytest.approx(float(nll), rel=1e-5)
    assert record["test/nll"] != pytest.approx(plain_nll(module, inputs, targets), rel=1e-3)


def plain_nll(module, inputs, targets):
    module.eval()
    with torch.no_grad():
        return float(functional.cross_entropy(module(inputs), targets))


def test_the_mean_of_one_sample_is_the_network_itself():
    options = {"posterior": Deterministic()}
    (mean,) = run(test_posterior=True, **options)
    (plain,) = run(**options)
    assert mean["test/nll"] == pytest.approx(plain["test/nll"])


def test_a_mean_leaves_what_is_bought_and_validated_as_it_is():
    options = {"posterior": MCDropout(4), "rounds": 2}
    mean, plain = run(test_posterior=True, **options), run(**options)
    for one, other in zip(mean, plain, strict=True):
        assert one["acquired"] == other["acquired"]
        assert one["val/nll"] == other["val/nll"]
        assert one["test/nll"] != other["test/nll"]


def test_the_module_has_its_own_forward_and_gradients_back_after_a_failed_test():
    class Failing(Classifier):
        def test_step(self, batch, batch_idx):
            raise RuntimeError("no")

    made = []

    def model():
        made.append(Failing(kit.toy_network(), 3))
        return made[-1]

    with pytest.raises(RuntimeError, match="no"):
        run(model=model, posterior=MCDropout(3), test_posterior=True)
    assert "forward" not in vars(made[0])
    assert torch.is_grad_enabled()
