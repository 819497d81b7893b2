"""What the first step of a training tells of the model, the loss, the optimizer and the data: the one-step test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from danlu.base import log
from danlu.data.batches import Batch, map_tensors
from danlu.diseases.evidence import TrainingEvidence
from danlu.diseases.examine import examine
from danlu.training.step import Stepped

NAMED = 10
ROWS_SUM_TO_ONE = 1e-3
SAME_LOSS = 1e-3
CHANGED_BY_TRAIN = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm, nn.RNNBase)


@torch.no_grad()
def first_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    stepped: Stepped,
    changes: Mapping[int, tuple[float | None, float]],
) -> dict[str, Any]:
    """Facts, as JSON values; `changes`: by the id of a parameter, the norms of its gradient and of what the step did.

    `inputs`: of the tensors of the batch, how many examples hold NaN or infinite numbers, range, mean and standard
    deviation, how many examples equal one of the first three, itself among them, and the share of positions at which
    any two differ. `labels`: how often each class occurs and how many lie outside the scores. `scores`: shape, the
    loss and that of guessing, whether the loss is their cross entropy (where labels are parts of 1, the binary one
    with logits) or minus the scores of the right classes, and whether they are probabilities already, or squeezed.
    `parameters`: those that are frozen, unknown to the optimizer, without a gradient or with one that is zero.
    `resting`: layers that stay in eval mode although training is on.
    """
    inputs, labels = batch
    answered = None  # labels by the pieces that were computed: not of the batch, where it was too large for memory
    scores = None
    if stepped.answers:
        scores, answered = (torch.cat(parts) for parts in zip(*stepped.answers, strict=True))
    return {
        "inputs": _inputs(inputs),
        "labels": _labels(labels, scores),
        "scores": _scores(scores, labels if answered is None else answered, float(stepped.loss)),
        "parameters": _parameters(model, optimizer, changes),
        "resting": {
            "of": sum(isinstance(module, CHANGED_BY_TRAIN) for module in model.modules()),
            "count": sum(isinstance(module, CHANGED_BY_TRAIN) and not module.training for module in model.modules()),
            "names": _named(
                f"{name or 'the model'} ({type(module).__name__})"
                for name, module in model.named_modules()
                if isinstance(module, CHANGED_BY_TRAIN) and not module.training
            ),
        },
        "optimizer": {
            "name": type(optimizer).__name__,
            "learning_rate": max(group.get("initial_lr", group["lr"]) for group in optimizer.param_groups),
            "weight_decay": max(float(group.get("weight_decay", 0)) for group in optimizer.param_groups),
        },
    }


def tell_first_step(facts: Mapping[str, Any]) -> None:
    """Warn of what the first step is sure of, hours before the training ends."""
    for found in examine(TrainingEvidence(first=facts)):
        if found.level == "high":
            log.warn(f"first step, {found.disease}: {found.sentence}; {found.cure.advice}")


def count_bad(inputs: Any) -> int:
    """How many examples of a batch hold a number that is NaN or infinite."""
    bad: list[Tensor] = []

    def look(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point() and tensor.ndim:
            bad.append(~tensor.isfinite().reshape(len(tensor), -1).all(1))
        return tensor

    map_tensors(inputs, look)
    return int(torch.stack(bad).any(0).sum()) if bad else 0


def _inputs(inputs: Any) -> dict[str, Any]:
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(inputs, keep)
    if not found:
        return {"kind": "none"}
    tensor = found[0]
    rows = tensor.reshape(len(tensor), -1)
    told = {
        "kind": "numbers" if tensor.is_floating_point() else "tokens",
        "shape": list(tensor.shape),
        "examples": len(tensor),
        "bad_examples": count_bad(inputs),
        # The first may be the odd one out, three hardly are.
        "alike": max(int((rows == row).all(1).sum()) for row in rows[:3]) if len(rows) else 0,
        "varying": float((rows != rows[0]).any(0).float().mean()),
    }
    if tensor.is_floating_point():
        numbers = tensor[tensor.isfinite()].float()
        if numbers.numel():
            told |= {
                "mean": float(numbers.mean()),
                "std": float(numbers.std(correction=0)),
                "lowest": float(numbers.min()),
                "highest": float(numbers.max()),
            }
    return told


def _labels(labels: Tensor, scores: Tensor | None) -> dict[str, Any]:
    if labels.is_floating_point() or labels.ndim != 1:
        return {"kind": "numbers"}
    values, counts = torch.unique(labels, return_counts=True)
    classes = scores.shape[1] if scores is not None and scores.ndim == 2 else None
    outside = int(((labels < 0) | (labels >= classes)).sum()) if classes else 0
    return {
        "kind": "classes",
        "counts": dict(zip(map(str, values.tolist()), counts.tolist(), strict=True)),
        "outside": outside,
    }


def _scores(scores: Tensor | None, labels: Tensor, loss: float) -> dict[str, Any]:
    told: dict[str, Any] = {"loss": loss if math.isfinite(loss) else None}
    if scores is None:
        return told
    values = scores.float()
    if labels.is_floating_point():
        return {**told, "bad": int((~values.isfinite()).sum()), **_of_labels_in_parts(values, labels.float(), loss)}
    if scores.ndim != 2:
        return told
    sums = values.sum(1)
    if ((labels < 0) | (labels >= scores.shape[1])).any():
        return told
    return {
        **told,
        "shape": list(scores.shape),
        "bad": int((~values.isfinite()).sum()),
        "guessing_loss": math.log(scores.shape[1]) if scores.shape[1] > 1 else 0.0,
        "is_cross_entropy": _is(loss, functional.cross_entropy(values, labels)),
        "is_negative_score": _is(loss, functional.nll_loss(values, labels)),
        "are_probabilities": bool((values >= 0).all() and ((sums - 1).abs() < ROWS_SUM_TO_ONE).all()),
        "lie_between_0_and_1": _are_squeezed(values),
        "spread": float(values.std(correction=0)),
    }


def _of_labels_in_parts(scores: Tensor, labels: Tensor, loss: float) -> dict[str, Any]:
    """Of yes or no answers, one or several an example."""
    if scores.shape != labels.shape or not ((labels >= 0) & (labels <= 1)).all():
        return {}
    return {
        "is_binary_cross_entropy": _is(loss, functional.binary_cross_entropy_with_logits(scores, labels)),
        "lie_between_0_and_1": _are_squeezed(scores.reshape(len(scores), -1)),
    }


def _is(loss: float, other: Tensor) -> bool:
    return abs(float(other) - loss) <= SAME_LOSS * max(1.0, abs(loss))


def _are_squeezed(values: Tensor) -> bool:
    """As by a sigmoid, which says neither 0, as ReLU does, nor the same of every example, as weights of 0 do."""
    return bool(((values > 0) & (values <= 1)).all() and (values != values[:1]).any())


def _parameters(
    model: nn.Module, optimizer: torch.optim.Optimizer, changes: Mapping[int, tuple[float | None, float]]
) -> dict[str, Any]:
    known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    groups: dict[str, list[tuple[str, nn.Parameter]]] = {
        name: [] for name in ("frozen", "not_in_optimizer", "without_gradient", "zero_gradient")
    }
    total = 0
    for name, parameter in model.named_parameters():
        total += parameter.numel()
        gradient = changes.get(id(parameter), (None, 0.0))[0]
        if not parameter.requires_grad:
            groups["frozen"].append((name, parameter))
        elif id(parameter) not in known:
            groups["not_in_optimizer"].append((name, parameter))
        elif gradient is None:
            groups["without_gradient"].append((name, parameter))
        elif gradient == 0:
            groups["zero_gradient"].append((name, parameter))
    return {
        "total": total,
        **{
            kind: {"numbers": sum(p.numel() for _, p in found), "names": _named(name for name, _ in found)}
            for kind, found in groups.items()
        },
    }


def _named(names: Any) -> list[str]:
    listed = list(names)
    return listed if len(listed) <= NAMED else [*listed[:NAMED], f"and {len(listed) - NAMED:,} more"]
