"""A pool pass that runs out of memory goes on with smaller batches, and chooses the same."""

import logging
import weakref
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import kit
import pytest
import torch
from processes import answers_of
from torch import distributed, nn
from toys import ask, dropout_net, largest

import dal.acquisition_batches
from dal.acquisition_draws import drawing
from dal.data.datamodule import ActiveDataModule
from dal.models.classifier import Classifier
from dal.pieces import Pieces
from dal.posteriors.deterministic import Deterministic
from dal.posteriors.ensemble import Ensemble
from dal.posteriors.head_dropout import HeadDropout
from dal.posteriors.laplace import Laplace
from dal.posteriors.masks import Masks
from dal.posteriors.mc_dropout import MCDropout
from dal.strategies.badge import badge
from dal.strategies.bald import bald
from dal.strategies.coreset import coreset
from dal.strategies.entropy import entropy
from dal.strategies.epig import epig
from dal.strategies.learning_loss import learning_loss
from dal.strategies.mixture import mixture

HERE = nn.Parameter(torch.zeros(1))  # stands for a weight on the CPU


class Narrow(nn.Module):
    """A network that runs out of memory above some rows in evaluation mode."""

    def __init__(self, network, rows):
        super().__init__()
        self.network = network
        self.rows = rows
        self.sizes = []  # rows of the passes that fitted
        self.left = []  # of those that did not

    def forward(self, inputs):
        assert not any(reference() is not None for reference in self.left), "memory is still held"
        if len(inputs) > self.rows and not self.training:
            activations = torch.zeros(len(inputs))
            self.left.append(weakref.ref(activations))
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total of 1 GiB"
            )
        self.sizes.append(len(inputs))
        return self.network(inputs)


def near(*, features, labelled_features):
    return -torch.cdist(features, labelled_features).amin(1)


def committee(rows=None):
    posterior = Ensemble(3)
    posterior.members = [other_net(seed, rows) for seed in (1, 2)]
    return posterior


def other_net(seed, rows):
    network = dropout_net()
    with torch.no_grad():
        network[0].weight += 0.1 * seed
    return network if rows is None else Narrow(network, rows)


def pool(**options):
    return ActiveDataModule(
        kit.toy_data(test=6), **{"initial_size": 75, "eval_batch_size": 64, **options}
    )


CASES = {
    "a score": (entropy, Deterministic),
    "mc dropout": (bald, partial(MCDropout, 4)),
    "samples in blocks": (bald, partial(MCDropout, 4, memory_mb=0.01)),
    "head dropout": (bald, partial(HeadDropout, 4)),
    "laplace": (bald, partial(Laplace, 4)),
    "an ensemble": (bald, committee),
    "badge": (badge, partial(MCDropout, 4)),
    "coreset": (coreset, Deterministic),
    "labelled rows": (near, Deterministic),
    "target rows": (partial(epig), partial(MCDropout, 4)),
    "a mixture": (partial(mixture, strategies={"a": bald, "b": coreset}), partial(MCDropout, 4)),
}


@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize("name", CASES)
def test_a_pass_in_pieces_chooses_what_a_whole_one_does(name, rows, caplog):
    strategy, posterior = CASES[name]
    if rows == 1 and "dropout" in str(posterior):
        pytest.skip("its masks are tried on two samples of a row side by side")
    whole = ask(strategy, 10, pool(), dropout_net(), posterior())
    if posterior is committee:
        posterior = partial(committee, rows)
    again = ask(strategy, 10, pool(), Narrow(dropout_net(), rows), posterior())
    assert torch.equal(again.indices, whole.indices)
    assert (again.scores is None) == (whole.scores is None)
    if whole.scores is not None:
        torch.testing.assert_close(again.scores, whole.scores)


@pytest.mark.parametrize("rows", [1, 2, 6])
def test_all_rows_are_there_in_their_order(data, rows):
    seen = []

    def spy(*, features, n):
        seen.append(features[:, 0])
        return largest(features=features, n=n)

    ask(spy, 3, data, Narrow(kit.Untracked(), rows))
    assert seen[0].tolist() == data.pool.dealt.tolist()


def test_it_is_said_once_and_holds_for_all_later_passes(data, caplog):
    network = Narrow(kit.Untracked(), 2)
    with caplog.at_level(logging.WARNING, "dal"):
        for _ in range(3):
            data.label(ask(largest, 3, data, network).indices)
    said = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    text = "out of memory on cpu at batches of 7 rows; going on with 1"
    assert said == [("dal.pieces", "WARNING", text)]
    assert len(network.left) == 2  # at 7 rows and at 3
    assert set(network.sizes) == {1}


def test_nothing_is_said_where_there_is_room(data, caplog):
    with caplog.at_level(logging.WARNING, "dal"):
        ask(largest, 3, data, Narrow(kit.Untracked(), 7))
    assert not caplog.records


def test_no_room_for_one_row_is_an_error_that_says_what_to_set(data):
    with pytest.raises(
        ValueError, match=r"even with one row at a time \(CUDA out of memory. Tried"
    ):
        ask(largest, 3, data, Narrow(kit.Untracked(), 0))
    with pytest.raises(ValueError, match="lower eval_batch_size, "):
        ask(largest, 3, data, Narrow(kit.Untracked(), 0))


def test_a_first_attempt_that_fails_draws_no_mask_anew():
    whole = ask(bald, 10, pool(), dropout_net(), MCDropout(4))
    network, failures = dropout_net(), iter([True])

    class Late(nn.Module):
        def forward(self, inputs):  # behind the dropout layer, whose mask is drawn by then
            if not inputs.is_meta and len(inputs) > 80 and next(failures, False):
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return inputs

    network.insert(4, Late())
    again = ask(bald, 10, pool(), network, MCDropout(4))
    assert next(failures, "none left") == "none left"
    assert torch.equal(again.indices, whole.indices)


def test_a_mask_that_found_no_room_is_the_same_at_the_next_attempt(monkeypatch):
    inputs, layer = torch.ones(4, 5, 6), nn.Dropout(0.5)
    fresh, masks = (Masks(4, torch.Generator().manual_seed(0)) for _ in range(2))

    def full(*_args, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "to", full)
        with pytest.raises(torch.OutOfMemoryError):
            masks.apply("drop", layer, inputs, 0, 4)
    masks.start_pass()
    again = masks.apply("drop", layer, inputs, 0, 4)
    assert torch.equal(again, fresh.apply("drop", layer, inputs, 0, 4))


@pytest.mark.parametrize("posterior", [MCDropout(8, memory_mb=0.008), HeadDropout(8)])
def test_fewer_rows_never_mean_more_samples_side_by_side(posterior, monkeypatch):
    monkeypatch.setattr("dal.posteriors.head_dropout.WIDE_BYTES", 2 * 64 * 16 * 4)  # two samples
    network, wide = dropout_net(), []

    class Last(nn.Linear):
        def forward(self, inputs):
            if len(inputs) > 100:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            wide.append(len(inputs))
            return super().forward(inputs)

    torch.manual_seed(0)
    network[4] = Last(16, 3)
    data = pool()
    ask(bald, 10, data, network, posterior)
    assert data.pieces.most == 32
    assert max(wide) == 64


def test_a_posterior_is_drawn_again_from_smaller_batches_of_labelled_rows():
    data, seen = pool(), []

    class Greedy(Deterministic):
        def draw(self, model, generator, labelled=()):
            seen.append(float(torch.rand(1, generator=generator)))
            total = 0
            for inputs, labels in labelled:
                assert len(inputs) == len(labels)
                if len(inputs) > 20:
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                total += len(labels)
            assert total == 75
            return super().draw(model, generator)

    with drawing(Greedy(), dropout_net(), data, HERE) as predict:
        assert predict(torch.zeros(2, 4)).log_probs.shape == (2, 1, 3)
    assert data.pieces.most == 16
    assert len(seen) == 3
    assert len(set(seen)) == 1


def test_a_draw_that_fails_without_a_batch_is_not_tried_again():
    tried = []

    class Huge(Deterministic):
        def draw(self, *_):
            tried.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with (
        pytest.raises(ValueError, match=r"out of memory on cpu \(CUDA out of memory\.\); free"),
        drawing(Huge(), dropout_net(), pool(), HERE),
    ):
        pass
    assert tried == [1]


def test_results_that_find_no_room_at_first_are_allocated_once(data, monkeypatch):
    from dal.acquisition_storage import Storage

    made, empty = [], Storage.empty

    def scarce(self, name, *args):
        if len(made) == 1:
            made.append("no room")
            raise torch.OutOfMemoryError("CUDA out of memory.")
        made.append(name)
        return empty(self, name, *args)

    monkeypatch.setattr(Storage, "empty", scarce)

    def spy(*, features, probs, n):
        assert features[:, 0].tolist() == data.pool.dealt.tolist()
        assert len(probs) == len(features)
        return largest(features=features, n=n)

    ask(spy, 3, data, kit.Untracked())
    assert made == ["features", "no room", "probs"]


def test_bytes_that_could_not_be_allocated_count_as_free(monkeypatch):
    from dal.acquisition_storage import Storage
    from dal.functional.shards import Shards

    storage = Storage(torch.device("cpu"), Shards(0))
    rooms = [place.room for place in storage.places]

    def full(*_args, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(torch.OutOfMemoryError):
        storage.empty("features", (10, 3), torch.float32)
    assert [place.room for place in storage.places] == rooms


def test_the_trial_before_the_first_training_goes_on_too(run, module, caplog):
    def narrow():
        return Classifier(Narrow(kit.toy_network(), 5), 3, lambda p: torch.optim.Adam(p, lr=0.05))

    with caplog.at_level(logging.WARNING, "dal"):
        bought = run(module(eval_batch_size=64), model=narrow, strategy=coreset, rounds=2)
    whole = run(module(eval_batch_size=64), strategy=coreset, rounds=2)
    assert [record["acquired"] for record in bought] == [record["acquired"] for record in whole]
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory on cpu at batches of 6 rows; going on with 3"
    ]


def test_a_loss_prediction_learns_and_predicts_in_pieces(run):
    def narrow():
        return Classifier(Narrow(kit.toy_network(), 3), 3, lambda p: torch.optim.Adam(p, lr=0.05))

    bought, whole = (run(model=model, strategy=learning_loss, rounds=1)[0]["acquired"]
                     for model in (narrow, kit.toy_module))  # fmt: skip
    assert bought == whole


class Full:
    """A batch that a device has no room for."""

    is_cuda = False

    def pin_memory(self):
        return self

    def to(self, *_args, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory.")


def test_a_batch_that_cannot_be_copied_ahead_comes_as_it_was_loaded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    like = SimpleNamespace(device="cuda", dtype=torch.float32)
    batch = Full()
    assert dal.acquisition_batches._copied(batch, like, None) == (batch, None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_that_is_full_does_half_of_the_rows():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = dropout_net()

        def forward(self, inputs):
            space = torch.empty(len(inputs), 2**26, dtype=torch.uint8, device=inputs.device)
            return self.network(inputs + space[:, :1] * 0)

    total = torch.cuda.get_device_properties(0).total_memory
    data = pool()
    torch.cuda.set_per_process_memory_fraction(min(2**31 / total, 1.0))
    try:
        chosen = ask(entropy, 10, data, Wide().cuda()).indices
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 <= data.pieces.most < 64
    assert torch.equal(chosen, ask(entropy, 10, pool(), dropout_net().cuda()).indices)


def work(rank):
    network = dropout_net() if rank == 0 else Narrow(dropout_net(), 5)
    data, seen = pool(eval_batch_size=16), []
    asked = ask(
        partial(mixture, strategies={"a": bald, "b": coreset}), 12, data, network, MCDropout(4),
        group=distributed.group.WORLD, on_batch=lambda *rows: seen.append(rows),
    )  # fmt: skip
    return asked.indices, data.pieces.most, seen


def test_a_process_that_halves_disturbs_no_other(tmp_path):
    first, second = answers_of(work, 2, tmp_path)
    alone = ask(
        partial(mixture, strategies={"a": bald, "b": coreset}), 12, pool(eval_batch_size=16),
        dropout_net(), MCDropout(4),
    )  # fmt: skip
    assert torch.equal(first[0], alone.indices)
    assert torch.equal(second[0], alone.indices)
    assert first[1] == Pieces().most
    assert second[1] < 16
    assert len(first[2]) == 6  # of 11 batches
