"""The Lightning callback that queries the pool when training ends."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, distributed

from dal.acquisition import Query, query
from dal.acquisition_gather import OnBatch, features_of
from dal.acquisition_parts import asked_leaves
from dal.acquisition_signature import (
    Strategy,
    leaves_of,
    needs_of,
    rehearse,
    setting_of,
    takes_model_features,
    wants_last_layer,
)
from dal.acquisition_storage import Storage
from dal.data.attached import data_of
from dal.data.datamodule import ActiveDataModule
from dal.functional.checks import check_count, check_features
from dal.functional.shards import Shards
from dal.models.loss_prediction import LossPrediction
from dal.posteriors.deterministic import Deterministic
from dal.posteriors.ensemble import Ensemble
from dal.posteriors.posterior import Posterior, head_of
from dal.preflight import Preflight, candidates
from dal.seeding import generator_for, seed_for

_log = logging.getLogger(__name__)


class Acquire(pl.Callback):
    """Choose n rows of the pool with the model that was just trained, on its device.

    It works in `on_train_end`, the last hook before Lightning moves the model to the CPU, and asks
    of the module only `forward(x) -> logits`. Then `data.label(acquire.indices)` buys the labels.

    Args:
        strategy: a function of `dal.strategies`, or one of your own, with its settings bound by
            `functools.partial`.
        n: how many rows.
        posterior: where samples come from; the network itself if None.
        score: where the strategy's `scores` come from.
        features: [rows of the train set, D]; a representation computed beforehand, for the
            strategies that take any. None: what enters the model's last layer.
        on_batch: called with rows done and rows in all while the pool is read, in the first
            process.
        spill_dir: folder of the memory-mapped files that hold what no memory has room for; that
            for temporary files if None.
        preflight: of how many queries to come the first training tells beforehand, in one line of
            the log "dal.callbacks.acquire", what they will take of time and memory; 0: of none.
        on_preflight: called with that line in the first process.

    Where the Trainer uses several devices, they share the pass over the pool and choose the same.

    Raises:
        ValueError: if n is below 1; before training starts, if the strategy cannot run with this
            posterior or data, or its query will not fit into memory.
    """

    def __init__(
        self,
        strategy: Strategy,
        n: int,
        *,
        posterior: Posterior | None = None,
        score: Strategy | None = None,
        features: Tensor | None = None,
        on_batch: OnBatch | None = None,
        spill_dir: str | Path | None = None,
        preflight: int = 1,
        on_preflight: Callable[[str], None] | None = None,
    ) -> None:
        check_count("query_size", n, 1)
        check_count("preflight", preflight, 0)
        self.strategy = strategy
        self.n = n
        self.posterior = posterior or Deterministic()
        self.score = score
        self.features = features
        self.on_batch = on_batch
        self.spill_dir = spill_dir
        self.on_preflight = on_preflight
        self.query: Query | None = None
        self.losses: LossPrediction | None = None
        self._learnt: dict[str, Any] = {}  # by an interrupted training, of losses
        self._watching = ExitStack()
        self._unsaid = preflight  # queries of which nothing was said yet
        self._expected: Preflight | None = None

    @property
    def indices(self) -> Tensor:
        """[n] long: the dataset rows chosen, in the order of choice.

        Raises:
            ValueError: before training has ended.
        """
        if self.query is None:
            raise ValueError("nothing is chosen yet: indices exist once trainer.fit has ended")
        return self.query.indices

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse what cannot work before time is spent on training."""
        if stage != "fit":
            return
        data = data_of(trainer)
        self.check(data)
        if data.n_labelled and data.round == int(data.pool.rounds.min()):  # the first training
            self._try(pl_module, data)
        self.expect(trainer, pl_module, data)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell what the query will take, as soon as the module is where it will be."""
        self._tell(trainer, pl_module, data_of(trainer))

    def _try(self, model: pl.LightningModule, data: ActiveDataModule) -> None:
        """Ask the untrained model for a few labelled rows, as the query will."""
        features = takes_model_features(self.strategy, self.score, given=self.features is not None)
        probabilities = any(name.endswith("probs") for name in needs_of(self.strategy, self.score))
        if isinstance(self.posterior, Ensemble):  # its members exist in the rounds that ask them
            probabilities = self.asks_probabilities(data)
        if not probabilities and not features:
            return
        posterior = self.posterior if probabilities else Deterministic()
        inputs = data.data.normalise(data.data.train[data.pool.labelled[:4]])
        inputs = inputs.to(next(model.parameters()))
        generator = generator_for(data.seed, "masks")
        with posterior.draw(model, generator, [(inputs, data.pool.labels[:4])]) as predict:
            prediction = predict(inputs)
        if features:
            width = features_of(prediction).shape[1]
            for leaf in leaves_of(self.strategy).values():
                if wants_last_layer(leaf):  # what it holds may grow with C · D
                    self._rehearse(leaf, data, width)
        if "head" in needs_of(self.strategy, self.score):
            head_of(model)

    def asks_probabilities(self, data: ActiveDataModule) -> bool:
        """Whether the query of this round looks at the posterior's samples or their mean."""
        asked = self._asked(data, 0).values()
        return any(name.endswith("probs") for leaf in asked for name in needs_of(leaf, self.score))

    def check(self, data: ActiveDataModule, rounds: int = 1) -> None:
        """Raise ValueError if the strategy cannot work with this posterior and data.

        Args:
            data: as it is before the first of the rounds.
            rounds: how many queries are planned; a schedule must not end before them.
        """
        self._rehearse(self.strategy, data, width=3)
        for later in range(min(rounds, -(-data.pool.n_unlabelled // self.n))):
            self._asked(data, later)
        left = candidates(data)
        for leaf in leaves_of(self.strategy).values():
            clusters = setting_of(leaf, "clusters")
            if data.round == 0 and clusters is not None and clusters > left:  # later it may shrink
                raise ValueError(
                    f"strategy.clusters must be at most the pool's {left} items, got {clusters}"
                )
        self.check_features(data)

    def _rehearse(self, strategy: Strategy, data: ActiveDataModule, width: int) -> None:
        rehearse(
            strategy,
            self.score,
            samples=self.posterior.samples,
            num_classes=len(data.data.classes),
            width=width,
        )

    def _asked(self, data: ActiveDataModule, later: int) -> dict[str, Strategy]:
        """Leaves that the query `later` rounds from now asks."""
        bought = later * self.n
        pool = candidates(data, bought)
        given = {
            "round": data.round + later,
            "n_labelled": data.n_labelled + bought,
            "n_pool": pool,
            "labels": torch.cat([data.pool.labels, data.pool.labels.new_zeros(bought)]),
            "generator": generator_for(data.seed, "query", data.round + later),
        }
        return asked_leaves(self.strategy, given, min(self.n, pool), pool)

    def expect(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, data: ActiveDataModule
    ) -> None:
        """Raise ValueError if a query to come will not fit into memory; looked at once."""
        coming = min(self._unsaid, -(-data.pool.n_unlabelled // self.n))
        if not coming or self._expected is not None:
            return
        where = next(pl_module.parameters()).device  # an untrained module is asked where it is
        device = trainer.strategy.root_device if data.n_labelled else where
        self._expected = Preflight(
            self.strategy,
            self.n,
            [self._asked(data, later) for later in range(coming)],
            model=pl_module,
            data=data,
            posterior=self.posterior,
            score=self.score,
            features=self.features,
            storage=Storage(device, Shards(0, _group(trainer), device), self.spill_dir),
        )

    def _tell(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, data: ActiveDataModule
    ) -> None:
        """Say in one line what is expected."""
        if self._expected is None:
            return
        lacks_members = isinstance(self.posterior, Ensemble) and not self.asks_probabilities(data)
        line = self._expected.line(
            pl_module, trainer.precision_plugin.forward_context, ahead=not lacks_members
        )
        self._unsaid, self._expected = 0, None
        if trainer.is_global_zero:
            _log.info(line)
            if self.on_preflight is not None:
                self.on_preflight(line)

    def check_features(self, data: ActiveDataModule) -> None:
        """Raise ValueError unless the given features, if any, are those of the train rows."""
        if self.features is None:
            return
        check_features("the given features", self.features)
        if len(self.features) != len(data.data.train):
            raise ValueError(
                f"the given features must have one row per train item, {len(data.data.train)}, got "
                f"{len(self.features)}; were they computed for another data set?"
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to learn losses beside the module, if the strategy asks for them."""
        if "predicted_losses" not in needs_of(self.strategy, self.score):
            return
        data = data_of(trainer)
        self.losses = LossPrediction(seed_for(data.seed, "weights", data.round, "losses"))
        self.losses.load_state_dict(self._learnt, pl_module.device)
        self._watching.enter_context(self.losses.watching(pl_module))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Let the loss prediction make its step on the batch."""
        if self.losses is not None:
            self.losses.learn(batch[1])

    def state_dict(self) -> dict[str, Any]:
        """Return what the loss prediction learnt so far, for Lightning's checkpoint."""
        return {"losses": self.losses.state_dict()} if self.losses else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what the loss prediction of an interrupted training had learnt."""
        self._learnt = state_dict.get("losses", {})

    def on_exception(self, *_: Any) -> None:
        """Take the hooks off a module whose training failed."""
        self._watching.close()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score the pool and choose."""
        self._watching.close()
        self.run(trainer, pl_module, data_of(trainer))

    def run(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, data: ActiveDataModule
    ) -> None:
        """Query the pool with the module as it is."""
        self.expect(trainer, pl_module, data)
        self._tell(trainer, pl_module, data)
        self.query = query(
            self.strategy,
            self.n,
            model=pl_module,
            data=data,
            posterior=self.posterior,
            score=self.score,
            features=self.features,
            losses=self.losses,
            context=trainer.precision_plugin.forward_context,
            on_batch=self.on_batch,
            group=_group(trainer),
            spill_dir=self.spill_dir,
        )


def _group(trainer: pl.Trainer) -> distributed.ProcessGroup | None:
    return distributed.group.WORLD if trainer.world_size > 1 else None
