"""Features learned without labels: random views, the contrastive loss, and the training."""

import signal
from functools import partial

import pytest
import torch
from pictures import files, generator, global_states, image_data, with_other_labels
from torch import nn

from dal.features.encoders import small_resnet
from dal.features.images import random_views
from dal.features.self_supervised import SimCLR, contrastive_loss, self_supervised

# Views


def pictures(count=4, channels=1, height=9, width=9, seed=0):
    return torch.rand(count, channels, height, width, generator=generator(seed))


channels_ = pytest.mark.parametrize("channels", [1, 3])
still = {"crop": 1.0, "rotate": 0.0, "colour": 0.0}


@channels_
@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 6), (5, 12)])
def test_views_have_the_shape_and_range_of_the_images(channels, height, width):
    images = pictures(50, channels, height, width)
    views = random_views(images, generator(), flip=True)
    assert views.shape == images.shape
    assert views.dtype == torch.float32
    assert 0 <= float(views.min()) < float(views.max()) <= 1
    assert views.isfinite().all()


@channels_
def test_the_same_generator_gives_the_same_views_and_another_others(channels):
    images = pictures(8, channels)
    first, again, other = (random_views(images, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_generator_gives_new_views_with_every_call_and_for_every_image():
    images, draws = pictures(1).expand(6, -1, -1, -1), generator()
    first, second = (random_views(images, draws) for _ in range(2))
    assert not torch.equal(first, second)
    assert len(first.unique(dim=0)) == 6


@channels_
@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 6)])
def test_without_any_change_the_view_is_the_image(channels, height, width):
    images = pictures(64, channels, height, width)
    views = random_views(images, generator(), **still, flip=False)
    torch.testing.assert_close(views, images, atol=1e-4, rtol=0)


@channels_
def test_a_flip_alone_gives_the_image_or_its_mirror(channels):
    images = pictures(64, channels)
    views = random_views(images, generator(), **still, flip=True)
    same, mirrored = (
        (views - kind).abs().amax((1, 2, 3)) < 1e-4 for kind in (images, images.flip(3))
    )
    assert (same ^ mirrored).all()
    assert 16 <= int(mirrored.sum()) <= 48


def test_a_crop_keeps_a_share_of_the_area_within_the_image():
    ramp = torch.linspace(0, 1, 101).expand(300, 1, 101, -1)  # a pixel says its column
    views = random_views(ramp, generator(), crop=0.25, rotate=0.0, colour=0.0)
    left, right = views[:, 0, 50, 0], views[:, 0, 50, -1]
    side = right - left
    assert float(side.min()) > 0.48
    assert float(side.max()) <= 1.0
    share = side.square()
    assert 0.55 < float(share.mean()) < 0.70  # uniform from 0.25 to 1
    assert float(left.min()) < 0.02
    assert float(right.max()) > 0.98


def test_a_rotation_stays_below_its_largest_angle():
    size, images = 65, torch.zeros(200, 1, 65, 65)
    images[:, 0, 32, 48:64] = 1.0  # a bar to the right of the centre
    views = random_views(images, generator(), crop=1.0, rotate=30.0, colour=0.0)
    place = torch.arange(size).float() - 32
    mass = views[:, 0].sum((1, 2))
    down = (views[:, 0].sum(2) * place).sum(1) / mass
    right = (views[:, 0].sum(1) * place).sum(1) / mass
    angles = torch.atan2(down, right).rad2deg()
    assert float(angles.abs().max()) < 30.5
    assert float(angles.min()) < -25
    assert float(angles.max()) > 25


def test_colours_change_without_moving_a_pixel():
    images = torch.zeros(40, 1, 8, 8)
    images[:, :, 2, 3] = 0.4
    views = random_views(images, generator(), crop=1.0, rotate=0.0, colour=0.4)
    assert views.flatten(1).argmax(1).unique().tolist() == [2 * 8 + 3]
    assert len(views[:, 0, 2, 3].unique()) == 40


@channels_
def test_views_leave_images_and_global_generators_alone(channels):
    images = pictures(8, channels)
    kept, before = images.clone(), global_states()
    random_views(images, generator(), flip=True)
    assert torch.equal(images, kept)
    assert global_states() == before


# The contrastive loss


def slow_loss(projections, temperature):
    """NT-Xent by scalar sums."""
    rows = projections.tolist()
    count = len(rows) // 2

    def similarity(one, other):
        dot = sum(a * b for a, b in zip(one, other, strict=True))
        norms = [sum(a * a for a in row) ** 0.5 for row in (one, other)]
        return dot / (norms[0] * norms[1]) / temperature

    total = 0.0
    for i, row in enumerate(rows):
        exponentials = [
            torch.tensor(similarity(row, other), dtype=torch.float64).exp().item()
            for j, other in enumerate(rows)
            if j != i
        ]
        partner = (i + count) % (2 * count)
        right = torch.tensor(similarity(row, rows[partner]), dtype=torch.float64).exp().item()
        total -= torch.tensor(right / sum(exponentials), dtype=torch.float64).log().item()
    return total / len(rows)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_loss_is_the_sum_over_all_pairs(count, temperature):
    projections = torch.randn(2 * count, 3, generator=generator(), dtype=torch.float64)
    loss = contrastive_loss(projections, temperature)
    assert float(loss) == pytest.approx(slow_loss(projections, temperature), abs=1e-12)


def test_the_loss_does_not_depend_on_lengths_nor_on_the_order_of_images_and_views():
    projections = torch.randn(10, 3, generator=generator(), dtype=torch.float64)
    loss = contrastive_loss(projections, 0.5)
    order = torch.tensor([3, 1, 4, 0, 2])
    for same in (
        projections * torch.arange(1, 11)[:, None],
        projections.roll(5, 0),
        projections[torch.cat([order, order + 5])],
    ):
        torch.testing.assert_close(contrastive_loss(same, 0.5), loss)


def test_the_loss_pulls_two_views_of_an_image_together():
    projections = torch.randn(6, 3, generator=generator()).requires_grad_()
    optimizer = torch.optim.SGD([projections], lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        contrastive_loss(projections, 0.5).backward()
        optimizer.step()
    unit = nn.functional.normalize(projections.detach(), dim=1)
    similar = unit @ unit.T
    assert similar.fill_diagonal_(-1).argmax(1).tolist() == [3, 4, 5, 0, 1, 2]


# Self-supervised


tiny = partial(self_supervised, encoder=partial(small_resnet, width=2), epochs=2, batch_size=8)


@pytest.fixture
def trainings(monkeypatch):
    """Count the steps of every training."""
    steps = []
    step = SimCLR.training_step

    def counted(self, batch, batch_idx):
        steps.append(len(batch))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SimCLR, "training_step", counted)
    return steps


@channels_
def test_features_are_learned_once_and_read_afterwards(tmp_path, trainings, channels):
    data = image_data(channels=channels)
    torch.manual_seed(1)
    first = tiny(data, cache_dir=tmp_path)
    assert trainings == [8] * 4  # two epochs of two whole batches
    torch.manual_seed(2)
    again = tiny(data, cache_dir=tmp_path)
    assert len(trainings) == 4
    assert torch.equal(again, first)
    assert (first.shape, first.dtype, first.requires_grad) == ((20, 8), torch.float32, False)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(20))
    assert len(first.unique(dim=0)) == 20


def test_the_same_seed_learns_the_same_and_another_seed_other_features(tmp_path):
    torch.manual_seed(1)
    first = tiny(image_data(), cache_dir=tmp_path / "a")
    torch.manual_seed(2)
    again = tiny(image_data(), cache_dir=tmp_path / "b")
    other = tiny(image_data(), cache_dir=tmp_path / "b", seed=1)
    assert torch.equal(again, first)
    assert not torch.allclose(other, first, atol=1e-3)


def test_learning_leaves_the_global_generators_alone(tmp_path):
    before = global_states()
    tiny(image_data(), cache_dir=tmp_path, epochs=1)
    assert global_states() == before


def other_encoder(input_shape, width=2):
    return small_resnet(input_shape, width)


CHANGES = {
    "epochs": {"epochs": 1},
    "batch_size": {"batch_size": 10},
    "learning_rate": {"learning_rate": 2e-3},
    "temperature": {"temperature": 0.4},
    "crop": {"crop": 0.5},
    "rotate": {"rotate": 20.0},
    "flip": {"flip": True},
    "colour": {"colour": 0.1},
    "seed": {"seed": 5},
    "the encoder's width": {"encoder": partial(small_resnet, width=3)},
    "the encoder": {"encoder": other_encoder},
}


def test_features_are_learned_anew_for_other_settings_or_inputs(tmp_path, monkeypatch):
    from dal.features import self_supervised as module

    trained = []
    monkeypatch.setattr(module, "_train", lambda *args: trained.append(args))
    tiny(image_data(), cache_dir=tmp_path)
    for count, change in enumerate(CHANGES.values(), start=2):
        tiny(image_data(), cache_dir=tmp_path, **change)
        assert len(trained) == count == len(files(tmp_path)), change
    tiny(image_data(seed=1), cache_dir=tmp_path)
    assert len(trained) == len(CHANGES) + 2


def test_encoders_of_one_name_from_two_modules_are_told_apart(tmp_path, monkeypatch):
    from dal.features import self_supervised as module

    trained = []
    monkeypatch.setattr(module, "_train", lambda *args: trained.append(args))
    for name in ("one", "two"):
        namespace = {"__name__": name, "small_resnet": small_resnet}
        exec("def make(input_shape):\n    return small_resnet(input_shape, 2)", namespace)
        tiny(image_data(), cache_dir=tmp_path, encoder=namespace["make"])
    assert len(trained) == 2


def test_an_interrupt_while_learning_stays_an_interrupt_and_keeps_nothing(tmp_path, monkeypatch):
    def interrupted(self, batch, batch_idx):
        raise KeyboardInterrupt

    monkeypatch.setattr(SimCLR, "training_step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            tiny(image_data(), cache_dir=tmp_path)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert files(tmp_path) == []


def test_labels_have_no_part_in_it(tmp_path, trainings):
    data = image_data()
    tiny(data, cache_dir=tmp_path)
    tiny(with_other_labels(data), cache_dir=tmp_path)
    assert len(trainings) == 4


def test_fewer_images_than_a_batch_are_one_batch(tmp_path, trainings):
    features = tiny(image_data(5), cache_dir=tmp_path, batch_size=256)
    assert trainings == [5, 5]
    assert features.shape[0] == 5


class Split(nn.Module):
    """An encoder whose features are not its output."""

    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(input_shape[1] * input_shape[2], 6))
        self.head = nn.Linear(6, num_classes)

    def features(self, images):
        return self.body(images)

    def forward(self, images):
        return self.head(self.features(images))


def test_an_encoder_that_shows_features_gives_those(tmp_path):
    assert tiny(image_data(), cache_dir=tmp_path, encoder=Split).shape == (20, 6)


@pytest.mark.parametrize(
    "setting",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"batch_size": 1},
        {"learning_rate": 0},
        {"learning_rate": -1.0},
        {"temperature": 0},
        {"temperature": torch.inf},
        {"crop": 0},
        {"crop": 1.5},
        {"crop": "half"},
        {"rotate": -1.0},
        {"rotate": torch.nan},
        {"colour": -0.1},
        {"colour": torch.nan},
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_named_before_anything_is_trained(tmp_path, trainings, setting):
    with pytest.raises(ValueError, match=rf"^{next(iter(setting))} must"):
        tiny(image_data(), cache_dir=tmp_path, **setting)
    assert trainings == []
    assert files(tmp_path) == []


def test_training_makes_the_views_of_an_image_more_alike(tmp_path, monkeypatch):
    noise = torch.randn(48, 1, 8, 8, generator=generator())
    inputs = (128 + 60 * nn.functional.avg_pool2d(noise, 3, 1, 1)).clamp(0, 255)
    losses, step = [], SimCLR.training_step

    def noted(self, batch, batch_idx):
        loss = step(self, batch, batch_idx)
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(SimCLR, "training_step", noted)
    tiny(
        image_data(inputs=inputs.to(torch.uint8)), cache_dir=tmp_path, epochs=15, batch_size=24,
        colour=0.1, learning_rate=1e-2,
    )  # fmt: skip
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])
