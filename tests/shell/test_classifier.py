"""Classifier: loss, metrics and optimisers."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dal.models.classifier import Classifier

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
]


def quiet_trainer(**options):
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def measured(logits, targets, batch_size=4):
    """Test metrics of an identity network, over ragged batches."""
    module = Classifier(nn.Identity(), logits.shape[1])
    loader = DataLoader(TensorDataset(logits, targets), batch_size=batch_size)
    (metrics,) = quiet_trainer().test(module, loader, verbose=False)
    return metrics


def test_metrics_of_ragged_batches_equal_plain_computations():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(41, 5, generator=generator)
    targets = torch.randint(5, (41,), generator=generator)
    metrics = measured(logits, targets)
    right = (logits.argmax(1) == targets).float()
    assert metrics["test/accuracy"] == pytest.approx(float(right.mean()), abs=1e-6)
    nll = nn.functional.cross_entropy(logits, targets)
    assert metrics["test/nll"] == pytest.approx(float(nll), abs=1e-5)
    confidence = logits.softmax(1).amax(1)
    gap = 0.0
    for bin_ in range(15):
        inside = (confidence > bin_ / 15) & (confidence <= (bin_ + 1) / 15)
        gap += float((confidence[inside].sum() - right[inside].sum()).abs()) / 41
    assert metrics["test/ece"] == pytest.approx(gap, abs=1e-5)


def test_accuracy_is_over_items_and_not_over_classes():
    logits = torch.tensor([[9.0, 0.0]] * 9 + [[9.0, 0.0]])
    targets = torch.tensor([0] * 9 + [1])
    assert measured(logits, targets)["test/accuracy"] == pytest.approx(0.9)


def test_the_calibration_error_is_as_by_hand():
    sure, unsure = torch.tensor([0.8, 0.2]).log(), torch.tensor([0.6, 0.4]).log()
    logits = torch.stack([sure] * 4 + [unsure] * 4)
    targets = torch.tensor([0, 0, 0, 1, 0, 1, 1, 1])
    # half of the items at confidence .8 with accuracy 3/4, half at .6 with 1/4
    assert measured(logits, targets)["test/ece"] == pytest.approx(0.5 * 0.05 + 0.5 * 0.35, abs=1e-6)


def test_a_diverged_model_shows_as_nan_and_not_as_a_number():
    logits = torch.tensor([[0.0, 1.0], [float("nan"), 0.0], [1.0, 0.0]])
    nll = measured(logits, torch.tensor([0, 1, 0]))["test/nll"]
    assert nll != nll  # noqa: PLR0124


def test_the_loss_is_the_mean_cross_entropy():
    module = Classifier(nn.Identity(), 2)
    logits, targets = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0])
    loss = module.training_step((logits, targets), 0)
    by_hand = -(logits.softmax(1)[0, 0].log() + logits.softmax(1)[1, 0].log()) / 2
    torch.testing.assert_close(loss, by_hand)


def trained(scheduler=None, epochs=2):
    data = TensorDataset(torch.randn(12, 3), torch.arange(12) % 2)
    module = Classifier(
        nn.Linear(3, 2), 2, lambda p: torch.optim.SGD(p, lr=0.1), scheduler=scheduler
    )
    trainer = quiet_trainer(max_epochs=epochs)
    trainer.fit(module, DataLoader(data, batch_size=4))
    return trainer


def test_the_scheduler_is_stepped_once_per_optimiser_step():
    trainer = trained(lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5))
    assert trainer.global_step == 6
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**6)


def test_without_a_scheduler_the_learning_rate_stays():
    assert trained().optimizers[0].param_groups[0]["lr"] == 0.1


def test_forward_gives_logits_of_the_network():
    network = nn.Linear(3, 2)
    inputs = torch.ones(4, 3)
    assert torch.equal(Classifier(network, 2)(inputs), network(inputs))
