"""MC dropout: its passes are those of K networks with fixed masks."""

import kit
import pytest
import torch
from torch import nn

from dal.posteriors.mc_dropout import MCDropout

K = 5


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def inputs(*shape, seed=1):
    return torch.randn(*shape, generator=seeded(seed))


def sampled(model, *batches, seed=0, **options):
    options = {"samples": K, **options}
    with MCDropout(**options).draw(model, seeded(seed)) as predict:
        return torch.cat([predict(batch).log_probs for batch in batches])


def network(seed=0):
    """Trunk, one dropout, and a head that shows each of its 6 inputs as a logit, and a 0."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trunk = nn.Sequential(nn.Linear(3, 6), nn.ReLU())
    head = nn.Linear(6, 7, bias=False)
    with torch.no_grad():
        trunk[0].bias.fill_(4.0)  # no unit is 0 by itself
        head.weight.copy_(torch.cat([torch.eye(6), torch.zeros(1, 6)]))
    return nn.Sequential(trunk, nn.Dropout(0.4), head)


def test_each_sample_is_one_mask_on_the_features_of_every_item():
    model, batch = network(), inputs(9, 3)
    log_probs = sampled(model, batch[:4], batch[4:8], batch[8:])  # [9, K, 7]
    logits = (log_probs - log_probs[:, :, -1:])[..., :6]
    masks = (logits[0].abs() > 1e-4).float()  # read from the first item alone
    expected = model[0](batch).unsqueeze(1) * masks / 0.6
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    assert len(masks.unique(dim=0)) > 1
    assert 0 < masks.mean() < 1


def test_the_samples_of_a_small_network_are_those_of_masks_drawn_by_hand():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one, two, head = nn.Linear(3, 8), nn.Linear(8, 6), nn.Linear(6, 4)
    model = nn.Sequential(one, nn.Dropout(0.5), nn.Tanh(), two, nn.Dropout(0.25), head)
    batch, generator = inputs(7, 3), seeded(0)
    first = (torch.rand(K, 1, 8, generator=generator) >= 0.5).float() / 0.5
    second = (torch.rand(K, 1, 6, generator=generator) >= 0.25).float() / 0.75
    expected = torch.stack(
        [head(two((one(batch) * first[k]).tanh()) * second[k]).log_softmax(1) for k in range(K)],
        dim=1,
    )
    torch.testing.assert_close(sampled(model, batch), expected, atol=1e-6, rtol=1e-6)


def test_dropout_leaves_the_share_of_units_that_it_says():
    model = nn.Sequential(nn.Dropout(0.3), Reveal())
    with MCDropout(samples=400).draw(model, seeded(0)) as predict:
        predict(torch.ones(1, 50))
    kept = model[1].seen[-1] > 0
    assert kept.shape == (400, 50)
    assert float(kept.float().mean()) == pytest.approx(0.7, abs=0.01)
    assert float(model[1].seen[-1].max()) == pytest.approx(1 / 0.7)


class Reveal(nn.Module):
    """Keeps what it is shown and gives its sum as a logit, and a 0."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, values):
        self.seen.append(values.clone())
        total = values.flatten(1).sum(1)
        return torch.stack([total, torch.zeros_like(total)], dim=1)


def widest(model, batch, samples=200):
    """[samples, B, ...]: what came out of dropout in the wide pass over a batch."""
    with MCDropout(samples=samples).draw(model, seeded(0)) as predict:
        predict(batch)
    return model[-1].seen[-1].unflatten(0, (samples, len(batch)))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Dropout1d(0.5), (6, 5)),
        (nn.Dropout2d(0.5), (6, 3, 4)),
        (nn.Dropout3d(0.5), (6, 2, 3, 2)),
    ],
    ids=str,
)
def test_channelwise_dropout_drops_whole_channels(layer, shape):
    seen = widest(nn.Sequential(layer, Reveal()), torch.ones(2, *shape)).flatten(3)
    assert torch.equal(seen, seen[..., :1].expand_as(seen))
    assert torch.equal(seen[:, 0], seen[:, 1])
    assert 0.4 < float((seen[:, 0, :, 0] > 0).float().mean()) < 0.6


def test_plain_dropout_on_images_drops_single_pixels():
    seen = widest(nn.Sequential(nn.Dropout(0.5), Reveal()), torch.ones(2, 3, 4, 4)).flatten(3)
    assert not torch.equal(seen, seen[..., :1].expand_as(seen))


def test_alpha_dropout_keeps_mean_and_variance():
    batch = inputs(100, 40)
    seen = widest(nn.Sequential(nn.AlphaDropout(0.2), Reveal()), batch)
    assert float(seen.mean()) == pytest.approx(0, abs=0.02)
    assert float(seen.std()) == pytest.approx(1, abs=0.02)


def test_alpha_dropout_changes_kept_and_dropped_units_as_torch_does():
    batch = inputs(1, 2000)
    seen = widest(nn.Sequential(nn.AlphaDropout(0.2), Reveal()), batch, samples=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torchs = nn.functional.alpha_dropout(batch, 0.2, training=True)
    dropped = torchs[0].mode().values
    kept_by_both = (seen[0, 0] != seen[0, 0].mode().values) & (torchs[0] != dropped)
    assert float(seen[0, 0].mode().values) == pytest.approx(float(dropped), abs=1e-5)
    torch.testing.assert_close(seen[0, 0][kept_by_both], torchs[0][kept_by_both])
    assert int(kept_by_both.sum()) > 1000


def test_feature_alpha_dropout_drops_whole_channels():
    seen = widest(nn.Sequential(nn.FeatureAlphaDropout(0.5), Reveal()), torch.ones(2, 6, 3, 3))
    seen = seen.flatten(3)
    assert torch.equal(seen, seen[..., :1].expand_as(seen))
    assert len(seen.unique()) == 2


@pytest.mark.parametrize("sizes", [[9], [1] * 9, [4, 4, 1], [2, 7], [8, 1]], ids=str)
def test_the_masks_are_the_same_for_every_batch_size_and_the_ragged_last_batch(sizes):
    model, batch = kit.toy_network(), inputs(9, 4)
    whole = sampled(model, batch)
    torch.testing.assert_close(sampled(model, *batch.split(sizes)), whole, atol=1e-6, rtol=0)


def test_an_item_scored_alone_is_scored_as_in_any_batch():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.5),
            nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3),
        )  # fmt: skip
    batch = inputs(5, 1, 6, 6)
    whole = sampled(model, batch)
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(sampled(model, batch[order]), whole[order], atol=1e-6, rtol=0)
    for item in range(5):
        alone = sampled(model, batch[item : item + 1])
        torch.testing.assert_close(alone[0], whole[item], atol=1e-6, rtol=0)


def test_a_batch_met_twice_gets_the_same_samples():
    model, batch = kit.toy_network(), inputs(6, 4)
    twice = sampled(model, batch, batch)
    assert torch.equal(twice[:6], twice[6:])


def test_masks_follow_the_generator():
    model, batch = kit.toy_network(), inputs(6, 4)
    assert torch.equal(sampled(model, batch, seed=3), sampled(model, batch, seed=3))
    assert not torch.equal(sampled(model, batch, seed=3), sampled(model, batch, seed=4))


def test_the_next_query_of_the_same_generator_draws_new_masks():
    model, batch, generator = kit.toy_network(), inputs(6, 4), seeded(0)
    draws = []
    for _ in range(2):
        with MCDropout(K).draw(model, generator) as predict:
            draws.append(predict(batch).log_probs)
    assert not torch.equal(*draws)


def test_samples_differ_from_each_other():
    log_probs = sampled(kit.toy_network(), inputs(6, 4))
    assert all(
        not torch.equal(log_probs[:, a], log_probs[:, b]) for a in range(K) for b in range(a)
    )


@pytest.mark.parametrize("memory_mb", [1e-9, 1e-3, 1e3])
def test_bounded_memory_gives_the_same_samples(memory_mb):
    model, batch = kit.toy_network(), inputs(6, 4)
    got = sampled(model, batch, memory_mb=memory_mb)
    torch.testing.assert_close(got, sampled(model, batch), atol=1e-6, rtol=0)


def test_bounded_memory_bounds_the_width_of_a_pass():
    batch = torch.ones(8, 16)  # 512 bytes enter the dropout layer for one sample
    for memory, widths in ((0.001, {8, 16}), (1.0, {8, 16, 160})):
        model = nn.Sequential(nn.Dropout(0.5), Reveal())
        sampled(model, batch, samples=20, memory_mb=memory)
        assert {len(seen) for seen in model[1].seen} <= widths
        assert max(len(seen) for seen in model[1].seen) == max(widths)


def test_features_are_those_of_the_network_without_dropout():
    model, batch = kit.toy_network(), inputs(6, 4)
    with MCDropout(K).draw(model, seeded()) as predict:
        features = predict(batch).features
    assert torch.equal(features, model[:2](batch))
