"""MC dropout skips what precedes the first dropout layer, and still gives K full passes."""

import kit
import pytest
import torch
from torch import nn

from dal.posteriors.mc_dropout import MCDropout

K = 4
CHANNELWISE = nn.Dropout1d | nn.Dropout2d | nn.Dropout3d


def full_passes(model, batches, seed=0):
    """The slow way: K plain passes per batch, masks applied by hooks behind idle dropout."""
    generator, kept, calls, sample = torch.Generator().manual_seed(seed), {}, {}, [0]

    def drop(layer, args, _output):
        (values,) = args
        call = calls[layer] = calls.get(layer, -1) + 1
        unit = values.shape[1:]
        if isinstance(layer, CHANNELWISE):
            unit = (unit[0],) + (1,) * (len(unit) - 1)
        if (layer, call) not in kept:
            kept[layer, call] = torch.rand(K, *unit, generator=generator) >= layer.p
        return values.clone() * kept[layer, call][sample[0]] / (1 - layer.p)

    layers = [m for m in model.modules() if isinstance(m, nn.Dropout | CHANNELWISE)]
    hooks = [layer.register_forward_hook(drop) for layer in layers]
    model.eval()
    out = []
    with torch.no_grad():
        for batch in batches:
            passes = []
            for number in range(K):
                sample[0] = number
                calls.clear()
                passes.append(model(batch.clone()).float().log_softmax(1))
            out.append(torch.stack(passes, dim=1))
    for hook in hooks:
        hook.remove()
    return torch.cat(out)


class Net(nn.Module):
    """A body, a side and a head around two dropout layers; `route` says how they are joined."""

    def __init__(self, route, rows=None):
        super().__init__()
        self.route, self.rows = route, rows
        self.body = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
        self.side = nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6, track_running_stats=False)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.again = nn.Dropout(0.5)
        self.block = nn.Sequential(self.side, nn.Tanh())
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(getattr(self, self.route)(x))

    def plain(self, x):
        return self.drop(self.body(x))

    def skip_of_the_trunk(self, x):
        h = self.body(x)
        return self.drop(h) + h

    def skip_of_an_inner_layer(self, x):
        first = self.body[0](x)
        return self.drop(self.body[2](first.tanh())) + first

    def skip_of_the_input(self, x):
        return self.drop(self.body(x)) + x

    def branch_of_the_input_after_dropout(self, x):
        return self.drop(self.body(x)) + self.side(x)

    def two_branches(self, x):
        return self.drop(self.body(x) + self.side(x))

    def dropout_first(self, x):
        return self.body(self.drop(x))

    def two_dropouts(self, x):
        return self.again(self.side(self.drop(self.body(x)).tanh()))

    def one_dropout_twice(self, x):
        return self.drop(self.side(self.drop(self.body(x))))

    def in_place_after_dropout(self, x):
        h = self.body(x)
        return self.relu(self.drop(h)) + h

    def in_place_before_dropout(self, x):
        h = self.body(x)
        return self.drop(self.relu(h)) + h

    def in_place_on_the_input(self, x):
        return self.drop(self.body(x.mul_(2))) + x

    def shared_inside_and_outside_a_container(self, x):
        return self.block(self.drop(self.side(self.block(x))))

    def container_called_twice_before_dropout(self, x):
        return self.drop(self.block(self.block(x)))

    def fixed_batch_size(self, x):
        return self.drop(self.body(x)).reshape(self.rows, 6)

    def batch_statistics(self, x):
        return self.norm(self.drop(self.body(x)))

    def functions_between(self, x):
        h = torch.cat([self.body(x)[:, 3:], x[:, :3].exp()], dim=1)
        return self.drop(h.sigmoid())

    def gate_on_the_trunk(self, x):
        h = self.body(x)
        return torch.where(h > 0, self.drop(h), -1.0)


ROUTES = [name for name in vars(Net) if name not in {"forward", "fixed_batch_size"}]
ROUTES = [name for name in ROUTES if not name.startswith("_")]


def build(route, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(route, **options)


def batches(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, 6, generator=generator) for size in sizes]


def shared(model, given, seed=0, **options):
    with MCDropout(K, **options).draw(model, torch.Generator().manual_seed(seed)) as predict:
        return torch.cat([predict(batch.clone()).log_probs for batch in given])


@pytest.mark.parametrize("memory_mb", [64.0, 1e-6], ids=["wide", "one sample at a time"])
@pytest.mark.parametrize("route", ROUTES)
def test_every_route_gives_full_passes(route, memory_mb):
    model, given = build(route), batches(5, 5, 3)
    got = shared(model, given, memory_mb=memory_mb)
    torch.testing.assert_close(got, full_passes(model, given), atol=2e-6, rtol=0)


def test_a_forward_that_fixes_its_batch_size_gives_full_passes():
    model, given = build("fixed_batch_size", rows=5), batches(5, 5)
    got = shared(model, given)
    torch.testing.assert_close(got, full_passes(model, given), atol=2e-6, rtol=0)


class Padded(nn.Module):
    """Masks out the steps of a sequence that are 0 in the input, after dropout."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(2, 6), nn.Tanh())
        self.mix = nn.Linear(6, 6)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 3)

    def forward(self, x):  # [B, T, 2]
        padding = (x == 0).all(-1, keepdim=True)
        h = self.drop(self.mix(self.encode(x)))
        return self.head(h.masked_fill(padding, 0.0).sum(1))


def test_what_only_a_later_batch_shows_is_not_lost():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Padded()
    full, padded = torch.randn(2, 4, 3, 2, generator=torch.Generator().manual_seed(0)).unbind()
    padded[:, 2:] = 0  # the first batch has no padding
    got = shared(model, [full, padded])
    torch.testing.assert_close(got, full_passes(model, [full, padded]), atol=2e-6, rtol=0)


def test_token_inputs_and_embeddings_give_full_passes():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 3))
    given = torch.randint(9, (3, 5, 3), generator=torch.Generator().manual_seed(0)).unbind()
    torch.testing.assert_close(shared(model, given), full_passes(model, given), atol=2e-6, rtol=0)


def test_a_recurrent_trunk_gives_full_passes():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(2, 4)
            self.cells = nn.LSTM(4, 5, batch_first=True)
            self.drop = nn.Dropout(0.5)
            self.head = nn.Linear(5, 3)

        def forward(self, x):
            states, _ = self.cells(self.embed(x))
            return self.head(self.drop(states[:, -1]))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Recurrent()
    given = torch.randn(2, 5, 3, 2, generator=torch.Generator().manual_seed(0)).unbind()
    torch.testing.assert_close(shared(model, given), full_passes(model, given), atol=2e-6, rtol=0)


def test_channelwise_dropout_in_a_convolutional_network_gives_full_passes():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Dropout2d(0.3), nn.Conv2d(4, 4, 3),
            nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5, inplace=True),
            nn.Flatten(), nn.Linear(16, 3),
        )  # fmt: skip
    given = torch.randn(2, 5, 1, 6, 6, generator=torch.Generator().manual_seed(0)).unbind()
    torch.testing.assert_close(shared(model, given), full_passes(model, given), atol=2e-6, rtol=0)


def test_the_trunk_and_its_parts_run_once_per_batch():
    inner = kit.Counting(nn.Conv2d(1, 4, 3))
    trunk = kit.Counting(nn.Sequential(inner, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()))
    tail = kit.Counting(nn.Linear(64, 3))
    model = nn.Sequential(trunk, nn.Dropout(0.5), tail)
    given = torch.randn(3, 5, 1, 6, 6, generator=torch.Generator().manual_seed(0)).unbind()
    with MCDropout(20).draw(model, torch.Generator()) as predict:
        predict(given[0])
        for batch in given[1:]:
            for layer in (inner, trunk, tail):
                layer.calls = layer.rows = 0
            predict(batch)
            assert (inner.calls, inner.rows) == (trunk.calls, trunk.rows) == (1, 5)
            assert (tail.calls, tail.rows) == (2, 5 + 20 * 5)


def test_the_trunk_runs_once_per_batch_however_many_blocks_the_samples_need():
    trunk = kit.Counting(nn.Linear(6, 8))
    model = nn.Sequential(trunk, nn.Dropout(0.5), nn.Linear(8, 3))
    first, second = batches(5, 5)
    with MCDropout(20, memory_mb=1e-6).draw(model, torch.Generator()) as predict:
        predict(first)
        trunk.calls = 0
        predict(second)
    assert trunk.calls == 1


@pytest.mark.parametrize("route", ["skip_of_the_trunk", "in_place_after_dropout"])
def test_a_skip_around_dropout_still_runs_the_trunk_once_per_batch(route):
    model = build(route)
    model.body = kit.Counting(model.body)
    first, second = batches(5, 5)
    with MCDropout(K).draw(model, torch.Generator()) as predict:
        predict(first)
        model.body.calls = 0
        predict(second)
    assert model.body.calls == 1
