"""Batches: resident tensors, an order that is f(seed, epoch), no copy that can be saved.

Anything with `epoch(number, start)` that yields (inputs, labels) from batch `start` on is a source of batches for the
loop, and so is any iterable of such pairs, such as a user's own `DataLoader`.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from danlu.base.errors import ConfigError
from danlu.data.augment import AT, Augmentation, augment, draw, shrink
from danlu.data.decode import PixelRows
from danlu.data.prepare import Part
from danlu.inputs.images import ImageRecipe, normalize
from danlu.inputs.texts import pad_rows

Batch = tuple[Any, Tensor]
CHUNK_BYTES = 2 << 20  # stays in the processor's cache: 2.5 times the speed of 24 MB
CHUNKS_AHEAD = 4
BUCKET_BATCHES = 50


@runtime_checkable
class Batches(Protocol):
    """What the loop reads. `len()` is the number of batches of an epoch.

    The batches of an epoch depend on its number alone: `epoch(3, 17)` gives what `epoch(3)` gives after 17 batches.
    """

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]: ...

    def __len__(self) -> int: ...


def stream_seed(seed: int, epoch: int, purpose: str) -> int:
    """A seed of its own for each (seed, epoch, purpose), the same on every machine."""
    sequence = np.random.SeedSequence([seed, epoch, *purpose.encode()])
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def draw_order(labels: np.ndarray, sampling: str, seed: int) -> np.ndarray:
    """The places of an epoch's examples, in the order they are seen.

    `shuffle`: each once. `balanced`: as many draws as there are examples, with replacement, every class equally
    likely. `undersample`: of every class as many as the rarest has, each at most once.

    >>> labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    >>> sorted(labels[draw_order(labels, "undersample", 0)].tolist())
    [0, 0, 1, 1]
    """
    rng = np.random.default_rng(seed)
    if sampling == "shuffle":
        return rng.permutation(len(labels))
    counts = np.bincount(labels)
    present = np.flatnonzero(counts)
    if sampling == "balanced":
        shares = (1 / (len(present) * np.maximum(counts, 1)))[labels]
        return rng.choice(len(labels), size=len(labels), p=shares / shares.sum())
    least = int(counts[present].min())
    kept = [rng.permutation(np.flatnonzero(labels == label))[:least] for label in present]
    return rng.permutation(np.concatenate(kept))


def epoch_size(labels: np.ndarray, sampling: str) -> int:
    """How many examples `draw_order` gives."""
    if sampling != "undersample" or not len(labels):
        return len(labels)
    counts = np.bincount(labels)
    present = counts[counts > 0]
    return int(present.min()) * len(present)


def draw_epoch(count: int, seed: int, epoch: int) -> Tensor:
    """The numbers every image of an epoch gets. Whether it is mirrored alternates from epoch to epoch: of two epochs
    each image is seen both ways, and learnt from sooner than by chance (Jordan, 2024).
    """
    draws = draw(count, stream_seed(seed, epoch, "augmentation"))
    first = torch.rand(count, generator=torch.Generator().manual_seed(stream_seed(seed, 0, "flip")))
    draws[:, AT["flip"]] = 1 - first if epoch % 2 else first
    return draws


class ImageBatches:
    """Training batches of one part: shuffled, augmented, normalised, (B, C, H, W) float32 and (B,) int64.

    The work before the model is done for many batches at once, and a batch is a slice of the result.
    """

    def __init__(
        self,
        part: Part,
        recipe: ImageRecipe,
        *,
        batch_size: int,
        seed: int,
        sampling: str = "shuffle",
        augmentation: Augmentation | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.on_disk = part.inputs if isinstance(part.inputs, PixelRows) else None
        if self.on_disk is None:
            self.pixels = torch.from_numpy(np.asarray(part.inputs)).to(device)
        self.labels = torch.from_numpy(part.labels).to(device)
        self.classes = part.labels
        self.sampling = sampling
        self.examples = epoch_size(part.labels, sampling)
        self.reader_threads = CHUNKS_AHEAD
        self.recipe = recipe
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = augmentation or Augmentation()
        floats = recipe.channels * recipe.height * recipe.width * 4
        self.chunk = max(1, CHUNK_BYTES // (floats * batch_size)) * batch_size

    def __len__(self) -> int:
        return -(-self.examples // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        device = self.labels.device
        order = torch.from_numpy(draw_order(self.classes, self.sampling, stream_seed(self.seed, number, "order")))
        draws = None
        if not self.augmentation.is_off:
            draws = draw_epoch(len(self.labels), self.seed, number)
        chunks = order.split(self.chunk)
        # A chunk is computed whole even when its first batches are left out: the same operations, the same bits.
        skipped, first_batch = divmod(start * self.batch_size, self.chunk)
        for chosen, pixels in self._read(chunks[skipped:]):
            here = chosen.to(device)
            if draws is None:
                images = normalize(pixels.float(), self.recipe)
            else:
                images = augment(pixels, draws[chosen].to(device), self.augmentation, self.recipe)
            if number < self.augmentation.early_epochs and self.augmentation.early_size:
                images = shrink(images, self.augmentation.early_size)
            labels = self.labels[here]
            for first in range(first_batch, len(chosen), self.batch_size):
                yield images[first : first + self.batch_size], labels[first : first + self.batch_size]
            first_batch = 0

    def _read(self, chunks: tuple[Tensor, ...]) -> Iterator[Batch]:
        """(indices, their pixels) a chunk at a time; from disk, the next ones are read while these are used."""
        if self.on_disk is None:
            for chosen in chunks:
                yield chosen, self.pixels[chosen.to(self.device)]
            return
        rows = self.on_disk
        ahead = self.reader_threads
        with ThreadPoolExecutor(max_workers=ahead) as pool:
            waiting = deque(pool.submit(rows.__getitem__, chosen.numpy()) for chosen in chunks[:ahead])
            for place, chosen in enumerate(chunks):
                pixels = torch.from_numpy(waiting.popleft().result()).to(self.device)
                if place + ahead < len(chunks):
                    waiting.append(pool.submit(rows.__getitem__, chunks[place + ahead].numpy()))
                yield chosen, pixels


class TextBatches:
    """Training batches of one part, (B, L) int64 token numbers with 0 at the end, and (B,) int64 labels.

    Texts of similar length share a batch: the shuffled order is cut into stretches of 50 batches, each sorted by
    length, and the batches are shuffled again.
    """

    def __init__(
        self,
        part: Part,
        *,
        batch_size: int,
        seed: int,
        sampling: str = "shuffle",
        device: torch.device | str = "cpu",
    ) -> None:
        self.rows = [np.asarray(row, dtype=np.int64) for row in part.inputs]
        self.lengths = np.array([len(row) for row in self.rows])
        self.labels = torch.from_numpy(part.labels).to(device)
        self.classes = part.labels
        self.sampling = sampling
        self.examples = epoch_size(part.labels, sampling)
        self.batch_size = batch_size
        self.seed = seed

    def __len__(self) -> int:
        return -(-self.examples // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        order = draw_order(self.classes, self.sampling, stream_seed(self.seed, number, "order"))
        batches: list[np.ndarray] = []
        stretch = self.batch_size * BUCKET_BATCHES
        for first in range(0, len(order), stretch):
            piece = order[first : first + stretch]
            piece = piece[np.argsort(self.lengths[piece], kind="stable")]
            batches += [piece[i : i + self.batch_size] for i in range(0, len(piece), self.batch_size)]
        rng = np.random.default_rng(stream_seed(self.seed, number, "order of batches"))
        for place in rng.permutation(len(batches))[start:]:
            yield self._batch(batches[place])

    def _batch(self, indices: np.ndarray) -> Batch:
        device = self.labels.device
        inputs = torch.from_numpy(pad_rows([self.rows[i] for i in indices])).to(device)
        return inputs, self.labels[torch.from_numpy(indices).to(device)]


class FixedBatches:
    """Validation and test batches: every example once, never shuffled or augmented.

    `order` is the order the examples come in; texts come sorted by length.
    """

    def __init__(
        self, part: Part, recipe: ImageRecipe | None, *, batch_size: int = 512, device: torch.device | str = "cpu"
    ) -> None:
        self.part = part
        self.recipe = recipe
        self.batch_size = batch_size
        self.device = device
        if recipe is None:
            self.order = np.argsort([len(row) for row in part.inputs], kind="stable")
        else:
            self.order = np.arange(len(part))

    def __len__(self) -> int:
        return -(-len(self.part) // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        for first in range(start * self.batch_size, len(self.order), self.batch_size):
            chosen = self.order[first : first + self.batch_size]
            labels = torch.from_numpy(self.part.labels[chosen]).to(self.device)
            if self.recipe is None:
                rows = [self.part.inputs[i] for i in chosen]
                yield torch.from_numpy(pad_rows(rows)).to(self.device), labels
            else:
                pixels = torch.from_numpy(self.part.inputs[chosen]).to(self.device)
                yield normalize(pixels.float(), self.recipe), labels


class LoaderBatches:
    """A user's own iterable of (inputs, labels), such as a `torch.utils.data.DataLoader`, as batches.

    Before an epoch and before each batch the random generators of PyTorch, NumPy and Python are seeded by (seed,
    epoch, batch), and the loader's own generator if it has one: a shuffling loader and random changes in the data set
    give the same batches again. Inputs may be a tensor, or tensors in lists, tuples or dicts.

    >>> pairs = [(torch.zeros(2, 3), torch.tensor([0, 1]))]
    >>> len(LoaderBatches(pairs))
    1
    """

    def __init__(self, loader: Iterable[Any], device: torch.device | str = "cpu", seed: int = 0) -> None:
        if not hasattr(loader, "__len__"):
            raise ConfigError(
                f"the length of {type(loader).__name__} is not known, and the schedule needs it",
                hint="give batches with `__len__`, the number of batches of an epoch",
            )
        self.loader = loader
        self.device = device
        self.seed = seed
        self.generator: torch.Generator | None = getattr(loader, "generator", None)

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        set_epoch = getattr(getattr(self.loader, "sampler", None), "set_epoch", None)
        if set_epoch is not None:
            set_epoch(number)
        if self.generator is not None:
            self.generator.manual_seed(stream_seed(self.seed, number, "loader"))
        seed_everything(stream_seed(self.seed, number, "loader"))
        for place, (inputs, labels) in enumerate(self._seeded(number)):
            if place >= start:
                yield to_device(inputs, self.device), labels.to(self.device)

    def _seeded(self, number: int) -> Iterator[Any]:
        source = iter(self.loader)
        place = 0
        while True:
            seed_everything(stream_seed(self.seed, number, "loader") + 1 + place)
            batch = next(source, None)
            if batch is None:
                return
            yield batch
            place += 1


def seed_everything(seed: int) -> None:
    """Seed the generators of PyTorch, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def to_device(inputs: Any, device: torch.device | str) -> Any:
    """A tensor, or tensors in lists, tuples and dicts, on a device."""
    return map_tensors(inputs, lambda tensor: tensor.to(device))


def rows_of(inputs: Any, start: int, stop: int) -> Any:
    """The examples from `start` up to `stop` of inputs whose tensors have examples first."""
    return map_tensors(inputs, lambda tensor: tensor[start:stop])


def map_tensors(inputs: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """
    >>> map_tensors({"a": [torch.ones(1)]}, lambda tensor: tensor + 1)
    {'a': [tensor([2.])]}
    """
    if isinstance(inputs, Tensor):
        return change(inputs)
    if isinstance(inputs, dict):
        return {key: map_tensors(value, change) for key, value in inputs.items()}
    if isinstance(inputs, (list, tuple)):
        made = [map_tensors(value, change) for value in inputs]
        return type(inputs)(*made) if hasattr(inputs, "_fields") else type(inputs)(made)
    return inputs


def fingerprint(batch: Batch) -> str:
    """SHA-256 over the bytes of a batch: equal batches, equal fingerprints."""
    digest = hashlib.sha256()

    def add(tensor: Tensor) -> Tensor:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return tensor

    map_tensors(list(batch), add)
    return digest.hexdigest()


def as_batches(source: Batches | Iterable[Any], device: torch.device | str = "cpu", seed: int = 0) -> Batches:
    """`source` itself when it has `epoch`, else wrapped as `LoaderBatches`."""
    return source if isinstance(source, Batches) else LoaderBatches(source, device, seed)
