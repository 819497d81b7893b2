"""How much each place of an image, or each token of a text, speaks for a class. The only file that imports captum.

Explained is the logit of the class counted from the mean of all classes' logits: what all of them share cancels out in
the softmax, so it must not show in an explanation either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerGradCam, LayerGradientXActivation, LayerIntegratedGradients
from torch import Tensor, nn
from torch.nn import functional

from danlu.base.errors import ConfigError, ModelError
from danlu.base.registry import nearest_names
from danlu.models.ngrams import NGrams

METHODS = ("hirescam", "gradcam")
# Side of the maps Selvaraju et al. read, 7 to 14. On the 3 × 3 to 4 × 4 maps that end a network for small images,
# blurring the places that were named hurt the answer hardly more than blurring the centre of every image.
SMALLEST_SIDE = 7
SMALLEST_GRAD_CAM_SIDE = 2
FEWEST_STEPS, MOST_STEPS = 16, 512
PIXEL_STEPS = 64
ROWS_AT_ONCE = 64
TOLERATED_GAP = 0.01
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.Hardswish, nn.Mish)


@dataclass(frozen=True)
class ImageAttribution:
    """`heat`: (images, height, width) float32 from 0 to 1, each image's largest 1; all 0 where nothing speaks for it.

    `gap`: (images,) as in `TextAttribution`, None where the method promises no sum.
    """

    method: str
    heat: np.ndarray
    gap: np.ndarray | None = None


@dataclass(frozen=True)
class TextAttribution:
    """`weights`: (tokens,) float64 in logits, positive where a token speaks for the class.

    `change`: by how much the text moves the logit from that of a text of as many `<pad>`. `gap`: the sum of the
    weights minus `change`, 0 in theory.
    """

    method: str
    weights: np.ndarray
    change: float
    gap: float


@dataclass(frozen=True)
class FeatureMap:
    """The output of one layer: (channels, height, width) of which `side` is the smaller of the last two."""

    name: str
    layer: nn.Module
    height: int
    width: int

    @property
    def side(self) -> int:
        return min(self.height, self.width)

    def __str__(self) -> str:
        return f"layer {self.name} ({self.height} × {self.width})"


def attribute_images(
    model: nn.Module, images: np.ndarray, targets: Sequence[int], method: str | None = None
) -> ImageAttribution:
    """Where each image speaks for its target class.

    `images`: (images, channels, height, width) float32, normalised. Without `method`: `hirescam` for a model with
    convolutions, integrated gradients for one without. Raises `ConfigError` for a method the model does not allow.

    `hirescam` (Draelos and Carin, 2020, arXiv:2011.08891) multiplies gradient and activation place by place. `gradcam`
    (Selvaraju et al., 2017, arXiv:1610.02391) first averages the gradient over all places, which is the same before
    global average pooling, and tells the wrong places where fully connected layers weigh each place by itself.
    """
    if method is not None and method not in METHODS:
        raise ConfigError(f"no method called {method!r}; {nearest_names(method, METHODS)}")
    inputs = torch.from_numpy(images)
    maps = _feature_maps(model, inputs[:1])
    chosen = _last_convolution(maps) if method == "gradcam" else _finest_last_map(maps)
    if chosen is not None:
        return _class_activation(model, inputs, targets, chosen, is_averaged=method == "gradcam")
    if method is not None:
        raise ConfigError(
            f"{method} needs a convolution whose output is larger than 1 × 1, this model has none",
            hint="without a method, it is explained by integrated gradients",
        )
    return _pixel_gradients(model, inputs, targets)


def attribute_text(model: nn.Module, token_ids: Sequence[int], target: int) -> TextAttribution:
    """How much each token of one text speaks for the target class.

    The start is the same text with every embedding replaced by that of `<pad>`; token numbers stay, so that all the
    model derives from them, such as the length, stays true. Integrated gradients (Sundararajan et al., 2017,
    arXiv:1703.01365), with more steps until the sum fits; for `ngrams`, whose logit is a sum over n-grams, that sum,
    each n-gram's share divided equally among its tokens.
    """
    tokens = torch.tensor([list(token_ids)], dtype=torch.int64)
    embedding = next((module for module in model.modules() if isinstance(module, nn.Embedding)), None)
    if embedding is None:
        raise ModelError("this text model has no embedding layer, so its tokens cannot be weighed")
    change = _change_from_padding(model, embedding, tokens, target)
    if isinstance(model, NGrams):
        weights = _shares_of_ngrams(model, tokens, target)
        told = "exact sum over n-grams, each divided among its tokens"
    else:
        weights = _embedding_gradients(model, embedding, tokens, target, change)
        told = "integrated gradients on the embeddings, from `<pad>`"
    return TextAttribution(told, weights, change, float(weights.sum()) - change)


def _centred(model: nn.Module) -> Callable[[Tensor], Tensor]:
    def scores(inputs: Tensor) -> Tensor:
        logits: Tensor = model(inputs)
        return logits - logits.mean(1, keepdim=True)

    return scores


def _feature_maps(model: nn.Module, image: Tensor) -> list[FeatureMap]:
    """Every (channels, height, width) output of a layer without children, in the order they are computed.

    A layer that is called twice is left out: what it gave cannot be told by its name.
    """
    found: list[FeatureMap] = []
    handles = []

    def watch(name: str, layer: nn.Module) -> None:
        def note(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                found.append(FeatureMap(name, module, *output.shape[2:]))

        handles.append(layer.register_forward_hook(note))

    for name, layer in model.named_modules():
        if not list(layer.children()):
            watch(name, layer)
    with torch.no_grad():
        model(image)
    for handle in handles:
        handle.remove()
    names = [each.name for each in found]
    return [each for each in found if names.count(each.name) == 1]


def _last_convolution(maps: Sequence[FeatureMap]) -> FeatureMap | None:
    wide = [m for m in maps if isinstance(m.layer, nn.Conv2d) and m.side >= SMALLEST_GRAD_CAM_SIDE]
    return wide[-1] if wide else None


def _finest_last_map(maps: Sequence[FeatureMap]) -> FeatureMap | None:
    """The last activation after a convolution that still has 7 × 7 places, else the last of the largest ones.

    Activations come after batch norm and are 0 where a channel found nothing; a bare convolution's zero means nothing.
    """
    first = next((place for place, m in enumerate(maps) if isinstance(m.layer, nn.Conv2d)), len(maps))
    activations = [m for m in maps[first:] if isinstance(m.layer, ACTIVATIONS)]
    usable = activations or [m for m in maps if isinstance(m.layer, nn.Conv2d)]
    wanted = min(SMALLEST_SIDE, max((m.side for m in usable), default=0))
    wide = [m for m in usable if m.side >= max(wanted, SMALLEST_GRAD_CAM_SIDE)]
    return wide[-1] if wide else None


def _class_activation(
    model: nn.Module, images: Tensor, targets: Sequence[int], chosen: FeatureMap, *, is_averaged: bool
) -> ImageAttribution:
    attribute = (LayerGradCam if is_averaged else LayerGradientXActivation)(_centred(model), chosen.layer).attribute
    maps = []
    for start in range(0, len(images), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        maps.append(attribute(images[rows], target=list(targets[rows])).detach().sum(1, keepdim=True).relu())
    enlarged = functional.interpolate(torch.cat(maps), tuple(images.shape[2:]), mode="bilinear")[:, 0]
    method = "Grad-CAM" if is_averaged else "HiResCAM (Grad-CAM place by place)"
    return ImageAttribution(f"{method} at {chosen}", _to_heat(enlarged))


def _pixel_gradients(model: nn.Module, images: Tensor, targets: Sequence[int]) -> ImageAttribution:
    attribute = IntegratedGradients(_centred(model)).attribute
    heat, gaps = [], []
    for image, target in zip(images[:, None], targets, strict=True):
        weights, gap = attribute(
            image,
            torch.zeros_like(image),
            target=int(target),
            n_steps=PIXEL_STEPS,
            internal_batch_size=ROWS_AT_ONCE,
            return_convergence_delta=True,
        )
        heat.append(weights.detach().abs().sum(1)[0])
        gaps.append(float(gap))
    method = "integrated gradients on the pixels, from the mean image, signs dropped"
    return ImageAttribution(method, _to_heat(torch.stack(heat)), np.array(gaps))


def _to_heat(maps: Tensor) -> np.ndarray:
    """(images, height, width) of at least 0 → largest 1 in each, except where all are 0."""
    largest = maps.amax((1, 2), keepdim=True)
    heat: np.ndarray = torch.where(largest > 0, maps / largest, 0).float().numpy()
    return heat


def _change_from_padding(model: nn.Module, embedding: nn.Embedding, tokens: Tensor, target: int) -> float:
    name = next(name for name, parameter in model.named_parameters() if parameter is embedding.weight)
    silent = {name: embedding.weight[:1].expand_as(embedding.weight)}
    with torch.no_grad():
        told = model(tokens)
        untold = torch.func.functional_call(model, silent, (tokens,))
    moved = (told - untold)[0]
    return float(moved[target] - moved.mean())


def _embedding_gradients(
    model: nn.Module, embedding: nn.Embedding, tokens: Tensor, target: int, change: float
) -> np.ndarray:
    """(tokens,) weights, with twice the steps until their sum is within 1 % of the change."""
    attribute = LayerIntegratedGradients(_centred(model), embedding).attribute
    steps = FEWEST_STEPS
    while True:
        found = attribute(
            tokens, torch.zeros_like(tokens), target=target, n_steps=steps, internal_batch_size=ROWS_AT_ONCE
        )
        weights: np.ndarray = found.detach().double().sum(2)[0].numpy()
        if (
            abs(weights.sum() - change) <= TOLERATED_GAP * max(abs(change), np.abs(weights).max())
            or steps >= MOST_STEPS
        ):
            return weights
        steps *= 2


def _shares_of_ngrams(model: NGrams, tokens: Tensor, target: int) -> np.ndarray:
    """(tokens,) weights. The logit is linear in the table of embeddings, so gradient × embedding is exact."""
    table = model.embedding.weight
    (gradient,) = torch.autograd.grad(_centred(model)(tokens)[0, target], table)
    grams = model.grams(tokens)[0]
    times = torch.bincount(grams, minlength=len(table))
    shares = (gradient[grams] * table[grams]).sum(1).detach().double() / times[grams]
    count = tokens.shape[1]
    weights, start = torch.zeros(count, dtype=torch.float64), 0
    for length in range(1, min(model.longest, count) + 1):
        places = count - length + 1
        for offset in range(length):
            weights[offset : offset + places] += shares[start : start + places] / length
        start += places
    divided: np.ndarray = weights.numpy()
    return divided
