"""Losses: `(scores, labels) -> scalar`, the mean over the examples of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from danlu.base.settings import TrainingSettings
from danlu.training import LOSSES

LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """A loss and how much a batch weighs when the means of several batches become one."""

    function: LossFunction
    class_weights: Tensor | None = None

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        return self.function(scores, labels)

    def weight(self, labels: Tensor) -> Tensor:
        """The denominator of the mean: the number of examples, or the sum of their classes' weights."""
        if self.class_weights is None:
            return torch.full((), float(len(labels)), device=labels.device)
        return self.class_weights[labels].sum()


def build_loss(settings: TrainingSettings, class_weights: Tensor | None = None) -> Loss:
    """The named loss for scores (B, classes) and labels (B,) int64."""
    return Loss(LOSSES.load(settings.loss)(settings, class_weights), class_weights)


def balanced_weights(labels: Tensor, num_classes: int) -> Tensor:
    """(classes,) examples / (classes × examples of the class).

    >>> balanced_weights(torch.tensor([0, 0, 0, 1]), 2).tolist()
    [0.6666666865348816, 2.0]
    """
    counts = torch.bincount(labels, minlength=num_classes).float()
    return labels.numel() / (num_classes * counts)


def cross_entropy(settings: TrainingSettings, class_weights: Tensor | None) -> LossFunction:
    smoothing = 0.0 if settings.label_smoothing == "auto" else float(settings.label_smoothing)

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(scores, labels, weight=class_weights, label_smoothing=smoothing)

    return loss


def focal(settings: TrainingSettings, class_weights: Tensor | None) -> LossFunction:
    """(1 − p)^γ × cross entropy, p the probability of the right class (Lin et al., 2017, equation 4)."""

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        log_probability = functional.log_softmax(scores, 1).gather(1, labels[:, None]).squeeze(1)
        per_example = -((1 - log_probability.exp()) ** settings.focal_gamma) * log_probability
        return _weighted_mean(per_example, labels, class_weights)

    return loss


def mse(settings: TrainingSettings, class_weights: Tensor | None) -> LossFunction:
    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        return _weighted_mean((_distance(scores, labels) ** 2).mean(1), labels, class_weights)

    return loss


def l1(settings: TrainingSettings, class_weights: Tensor | None) -> LossFunction:
    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        return _weighted_mean(_distance(scores, labels).abs().mean(1), labels, class_weights)

    return loss


def _distance(scores: Tensor, labels: Tensor) -> Tensor:
    return scores.softmax(1) - functional.one_hot(labels, scores.shape[1])


def _weighted_mean(per_example: Tensor, labels: Tensor, class_weights: Tensor | None) -> Tensor:
    if class_weights is None:
        return per_example.mean()
    weights = class_weights[labels]
    return (per_example * weights).sum() / weights.sum()
