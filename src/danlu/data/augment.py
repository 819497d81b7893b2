"""Random changes of training images as tensor operations on whole batches.

Every random number an image gets is a function of (seed, epoch, index of the image): batch size, order and device
do not change what happens to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from danlu.inputs.images import ImageRecipe, normalize

COLUMNS = (
    "flip",
    "down",
    "right",
    "angle",
    "brightness",
    "contrast",
    "saturation",
    "erase",
    "area",
    "aspect",
    "top",
    "left",
)
AT = {name: column for column, name in enumerate(COLUMNS)}
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's conversion to grey


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image; zeros and False mean that nothing does.

    `crop` pixels, `rotation` degrees, `brightness`, `contrast`, `saturation` largest relative changes,
    `erasing` the share of images that lose a rectangle of 2–20 % of their area (Zhong et al., 2020). Images of the
    first `early_epochs` epochs are brought to `early_size` pixels (progressive resizing, after Howard, 2018).
    """

    crop: int = 0
    flip: bool = False
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    erasing: float = 0.0
    early_size: int = 0
    early_epochs: int = 0

    @property
    def is_off(self) -> bool:
        return self == Augmentation()


def draw(count: int, seed: int) -> Tensor:
    """(count, numbers an image needs) float32 in [0, 1), on the processor whatever the device."""
    return torch.rand(count, len(COLUMNS), generator=torch.Generator().manual_seed(seed))


def augment(pixels: Tensor, draws: Tensor, augmentation: Augmentation, recipe: ImageRecipe) -> Tensor:
    """(B, C, H, W) uint8 and (B, len(COLUMNS)) draws → (B, C, H, W) float32, changed and normalised.

    >>> recipe = ImageRecipe(4, 4, 1)
    >>> pixels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    >>> augment(pixels, draw(2, 0), Augmentation(flip=True), recipe).shape
    torch.Size([2, 1, 4, 4])
    """
    if augmentation.crop or augmentation.flip:
        pixels = _crop_and_flip(pixels, draws, augmentation)
    images = pixels.float()
    if augmentation.rotation:
        images = _rotate(images, draws[:, AT["angle"]], augmentation.rotation)
    if augmentation.brightness or augmentation.contrast or augmentation.saturation:
        images = _jitter(images, draws, augmentation)
    images = normalize(images, recipe)
    if augmentation.erasing:
        images = _erase(images, draws, augmentation.erasing)
    return images


def shrink(images: Tensor, size: int) -> Tensor:
    """(B, C, H, W) float32 → (B, C, size, size), bilinear over all pixels that fall into one."""
    return functional.interpolate(images, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def _crop_and_flip(pixels: Tensor, draws: Tensor, augmentation: Augmentation) -> Tensor:
    """Pad with black, cut at a random place, mirror: one gather over row and column numbers."""
    count, _, height, width = pixels.shape
    margin = augmentation.crop
    rows = torch.arange(height, device=pixels.device).expand(count, -1)
    columns = torch.arange(width, device=pixels.device).expand(count, -1)
    if augmentation.flip:
        mirrored = draws[:, AT["flip"], None] < 0.5
        columns = torch.where(mirrored, width - 1 - columns, columns)
    if margin:
        pixels = functional.pad(pixels, (margin, margin, margin, margin))
        rows = rows + (draws[:, AT["down"], None] * (2 * margin + 1)).long()
        columns = columns + (draws[:, AT["right"], None] * (2 * margin + 1)).long()
    picture = torch.arange(count, device=pixels.device)[:, None, None]
    gathered = pixels.permute(0, 2, 3, 1)[picture, rows[:, :, None], columns[:, None, :]]
    return gathered.permute(0, 3, 1, 2)


def _rotate(images: Tensor, draws: Tensor, degrees: float) -> Tensor:
    angles = (draws * 2 - 1) * math.radians(degrees)
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    height, width = images.shape[2:]
    matrix = torch.stack(
        [
            torch.stack([cosine, -sine * (height / width), zero], 1),
            torch.stack([sine * (width / height), cosine, zero], 1),
        ],
        1,
    )
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _jitter(images: Tensor, draws: Tensor, augmentation: Augmentation) -> Tensor:
    def factor(name: str, strength: float) -> Tensor:
        return 1 + (draws[:, AT[name], None, None, None] * 2 - 1) * strength

    if augmentation.brightness:
        images = (images * factor("brightness", augmentation.brightness)).clamp(0, 255)
    if augmentation.contrast:
        middle = _gray(images).mean((1, 2, 3), keepdim=True)
        images = ((images - middle) * factor("contrast", augmentation.contrast) + middle).clamp(0, 255)
    if augmentation.saturation and images.shape[1] == 3:
        gray = _gray(images)
        images = ((images - gray) * factor("saturation", augmentation.saturation) + gray).clamp(0, 255)
    return images


def _gray(images: Tensor) -> Tensor:
    if images.shape[1] != 3:
        return images
    weights = torch.tensor(_LUMA, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def _erase(images: Tensor, draws: Tensor, share: float) -> Tensor:
    """Set a random rectangle to 0, the mean after normalisation."""
    height, width = images.shape[2:]
    area = (0.02 + 0.18 * draws[:, AT["area"]]) * height * width
    aspect = torch.exp((draws[:, AT["aspect"]] * 2 - 1) * math.log(3.3))
    tall = (area * aspect).sqrt().round().clamp(1, height)
    wide = (area / aspect).sqrt().round().clamp(1, width)
    top = (draws[:, AT["top"]] * (height - tall + 1)).floor()
    left = (draws[:, AT["left"]] * (width - wide + 1)).floor()
    rows = torch.arange(height, device=images.device)[None, :]
    columns = torch.arange(width, device=images.device)[None, :]
    in_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    in_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    chosen = (draws[:, AT["erase"]] < share)[:, None, None, None]
    return images.masked_fill(chosen & in_rows[:, None, :, None] & in_columns[:, None, None, :], 0.0)
