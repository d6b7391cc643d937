"""MC dropout on the features alone, for networks whose trunk is frozen or has no dropout."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dal.posteriors.posterior import (
    Predict,
    Prediction,
    check_head,
    check_several,
    evaluating,
    head_of,
    log_softmax,
    tapped_features,
)

WIDE_BYTES = 2**26  # of the features of one block of samples


class HeadDropout:
    """K last layers made by dropping features; the trunk runs once per batch.

    Sample k is head(h ∘ m_k / (1 - p)) with one mask m_k for every input. Where the network's own
    dropout stands before its last layer, that is MC dropout (Gal and Ghahramani, ICML 2016) of
    this layer alone; elsewhere the head should be trained under dropout for it to mean much.

    Args:
        samples: K, at least 2.
        dropout: p, the probability that a feature is dropped, between 0 and 1.

    Raises:
        ValueError: if K is below 2, or p is 0, 1 or beyond. `draw` raises it where the network
            shows no features or last layer, or all passes are identical.
    """

    def __init__(self, samples: int = 20, dropout: float = 0.5) -> None:
        check_several(samples, "head dropout")
        if not 0 < dropout < 1:
            raise ValueError(f"posterior.dropout must lie between 0 and 1, got {dropout!r}")
        self.samples = samples
        self.dropout = dropout

    @contextmanager
    def draw(
        self,
        model: nn.Module,
        generator: torch.Generator,
        labelled: Iterable[tuple[Tensor, Tensor]] = (),
    ) -> Iterator[Predict]:
        """Yield a function that predicts a batch as [B, K, C] with K fixed masks."""
        head = head_of(model)
        with evaluating(model), torch.no_grad(), tapped_features(model) as features_of:
            scales: list[Tensor] = []  # [K, D], once the width is known: 0 or 1 / (1 - p)
            differing = False  # the samples, on the first batch
            most = self.samples  # side by side; fewer rows must not mean more samples

            def predict(inputs: Tensor) -> Prediction:
                nonlocal differing, most
                logits = model(inputs)
                log_softmax(logits)  # refuses NaN
                features = features_of(inputs)
                if not scales or features is None:
                    features = check_head(head, features, logits)
                    scales.append(self._scales(features.shape[1], generator))
                scale = scales[0] = scales[0].to(features)
                if features.shape[1] != scale.shape[1]:
                    raise ValueError(
                        f"shared masks need features of one width, got {features.shape[1]} after "
                        f"{scale.shape[1]}"
                    )
                size = max(WIDE_BYTES // max(features.numel() * features.element_size(), 1), 1)
                size = min(size, most)
                rows = features.unsqueeze(0)  # [1, B, D]
                try:
                    blocks = [
                        log_softmax(head((rows * part.unsqueeze(1)).to(logits.dtype).flatten(0, 1)))
                        for part in scale.split(size)
                    ]
                except torch.OutOfMemoryError:
                    most = size
                    raise
                wide = torch.cat(blocks).unflatten(0, (self.samples, len(features)))  # [K, B, C]
                log_probs = wide.transpose(0, 1).contiguous()
                if not differing and bool((log_probs == log_probs[:, :1]).all()):
                    raise ValueError(
                        "head dropout: all passes are identical, so that disagreement is 0 for "
                        "every item; training diverged and left the last layer or its features 0"
                    )
                differing = True
                return Prediction(log_probs, features)

            yield predict

    def _scales(self, width: int, generator: torch.Generator) -> Tensor:
        drawn = torch.rand(self.samples, width, generator=generator)
        return (drawn >= self.dropout) / (1 - self.dropout)
