"""Runs that are sick on purpose, each with the finding it must get, and healthy ones that must get none.

`SICK[name].make()` trains a sick run below `DANLU_RUNS` and returns it, also where the training fails;
`SICK[name].well()` trains the same without the fault. Every run has one thread and no measured speed, so that it is
the same bits each time on one processor.
"""

from __future__ import annotations

import csv
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import danlu
from danlu.base.errors import DanluError
from danlu.base.runs import Run, runs_folder
from danlu.prediction.answers import Answers

REVIEWS = Path(__file__).with_name("reviews.csv")
HALVES = [0.5, 0.3, 0.2]  # a larger validation part, where a small difference matters
STEADY = {
    "training.threads": 1,
    "training.precision": "fp32",
    "training.channels_last": False,
    "training.compile": False,
}
Settings = dict[str, Any]
Pairs = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Case:
    """A fault and how to make it. `findings`: the names that are right for it, the main one first.

    `curable`: whether settings on danlu's command line mend it. `score`: what a cure has to raise, see `score_of`.
    `is_worse`: whether the fault lowers that score; it does not where it deceives or only costs time.
    """

    what: str
    findings: tuple[str, ...]
    make: Callable[[], Run]
    well: Callable[[], Run]
    curable: bool = False
    score: str = "validation_accuracy"
    is_worse: bool = True

    @property
    def finding(self) -> str:
        return self.findings[0]


def score_of(run: Run, score: str = "validation_accuracy") -> float | None:
    """Of the best weights on the validation part; None for a run that came to no answers.

    `validation_accuracy`, or `macro_recall`: the mean over classes of the share that is recognised.
    """
    if not run.answers_file("validation").exists():
        return None
    answers = Answers.read(run.answers_file("validation"))
    if score == "validation_accuracy":
        return float(answers.right.mean())
    truth = np.array(answers.truth)
    return float(np.mean([answers.right[truth == name].mean() for name in sorted(set(answers.truth))]))


# Data


@cache
def digits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Part → ((images, 8, 8) uint8, (images,) int64): scikit-learn's digits, shuffled once."""
    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(pixels))
    cuts = {"train": order[:1200], "validation": order[1200:1500], "test": order[1500:]}
    return {part: (pixels[rows], bunch.target[rows].astype(np.int64)) for part, rows in cuts.items()}


@cache
def reviews() -> tuple[list[str], np.ndarray]:
    """2,000 Chinese reviews, half of them positive (1)."""
    with open(REVIEWS, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["review"] for row in rows], np.array([row["label"] == "positive" for row in rows], dtype=np.int64)


def folder() -> Path:
    """Where the files of the ward lie, beside its runs: a cure trains on them again."""
    made = runs_folder().parent / "ward-data"
    made.mkdir(parents=True, exist_ok=True)
    return made


def write_arrays(name: str, parts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    short = {"train": "train", "validation": "val", "test": "test"}
    path = folder() / f"{name}.npz"
    arrays = {}
    for part, (pixels, labels) in parts.items():
        arrays |= {f"x_{short[part]}": pixels, f"y_{short[part]}": labels}
    np.savez(path, **arrays)
    return path


def write_reviews(name: str, texts: Sequence[str], labels: Sequence[int] | np.ndarray) -> Path:
    path = folder() / f"{name}.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("review", "label"))
        writer.writerows((text, ("negative", "positive")[label]) for text, label in zip(texts, labels, strict=True))
    return path


def shuffled(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(labels)


def flipped(labels: np.ndarray, share: float, classes: int, seed: int = 0) -> np.ndarray:
    """With this share of the labels replaced by another class."""
    rng = np.random.default_rng(seed)
    chosen = rng.random(len(labels)) < share
    return np.where(chosen, (labels + rng.integers(1, classes, len(labels))) % classes, labels)


# Runs of `danlu train`


def trained(name: str, data: str | Path, settings: Mapping[str, Any] | None = None) -> Run:
    """The run of `danlu train`, also where it fails after its first step."""
    free = free_name(name)
    try:
        return danlu.train(str(data), {**STEADY, **(settings or {})}, name=free)
    except DanluError:
        run = Run(runs_folder() / free)
        if not run.steps_file.exists() and not run.checkpoints_folder.exists():
            raise
        return run


def free_name(name: str) -> str:
    names = itertools.chain([name], (f"{name}-{count}" for count in itertools.count(2)))
    return next(each for each in names if not (runs_folder() / each).exists())


def on_digits(name: str, **settings: Any) -> Callable[[], Run]:
    """`mlp` on danlu's digits; keys as `training__epochs`."""
    return partial(trained, name, "digits", {"model.name": "mlp", **dotted(settings)})


def on_reviews(name: str, **settings: Any) -> Callable[[], Run]:
    return partial(trained, name, REVIEWS, {"model.name": "ngrams", **dotted(settings)})


def dotted(settings: Mapping[str, Any]) -> Settings:
    return {key.replace("__", "."): value for key, value in settings.items()}


def on_arrays(
    name: str, parts: Callable[[], Mapping[str, tuple[np.ndarray, np.ndarray]]], **settings: Any
) -> Callable[[], Run]:
    return lambda: trained(name, write_arrays(name, parts()), {"model.name": "mlp", **dotted(settings)})


def with_shuffled_labels() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    pixels, labels = digits()["train"]
    return {**digits(), "train": (pixels, shuffled(labels))}


def with_noisy_labels(share: float = 0.3) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {
        part: (pixels, flipped(labels, share, 10, seed))
        for seed, (part, (pixels, labels)) in enumerate(digits().items())
    }


def first_of_train(count: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    pixels, labels = digits()["train"]
    return {**digits(), "train": (pixels[:count], labels[:count])}


def with_noise(strength: float, seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Digits that are hard to read, so that learning examples by heart and learning digits are two things."""
    rng = np.random.default_rng(seed)
    return {
        part: (np.clip(pixels + rng.normal(0, strength, pixels.shape), 0, 255).astype(np.uint8), labels)
        for part, (pixels, labels) in digits().items()
    }


def with_a_leak() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Half of the validation part stands in train too."""
    parts = with_noise(90)
    (pixels, labels), (held, truth) = parts["train"], parts["validation"]
    half = len(held) // 2
    leaked = np.concatenate([pixels[:400], held[:half]]), np.concatenate([labels[:400], truth[:half]])
    return {**parts, "train": leaked}


def without_the_leak() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    parts = with_noise(90)
    pixels, labels = parts["train"]
    return {**parts, "train": (pixels[:400], labels[:400])}


def rare_eights(share: float) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Hardly readable digits, of which this share are eights (1); the others are 0."""
    rng = np.random.default_rng(0)
    parts = {}
    for part, (pixels, labels) in with_noise(90).items():
        others, eights = np.flatnonzero(labels != 8), np.flatnonzero(labels == 8)
        rows = rng.permutation(np.concatenate([others, eights[: round(len(others) * share / (1 - share))]]))
        parts[part] = pixels[rows], (labels[rows] == 8).astype(np.int64)
    return parts


def rare_reviews(name: str, share: float, **settings: Any) -> Callable[[], Run]:
    """Reviews of which the positive ones are this share."""

    def make() -> Run:
        texts, labels = reviews()
        negative, positive = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
        rare = positive[: round(len(negative) * share / (1 - share))]
        chosen = np.random.default_rng(0).permutation(np.concatenate([negative, rare]))
        path = write_reviews(name, [texts[row] for row in chosen], labels[chosen])
        return trained(name, path, {"model.name": "ngrams", "data.split": HALVES, **dotted(settings)})

    return make


def shuffled_reviews(name: str) -> Callable[[], Run]:
    def make() -> Run:
        texts, labels = reviews()
        return trained(name, write_reviews(name, texts, shuffled(labels)), {"model.name": "ngrams"})

    return make


def few_reviews(name: str, count: int, **settings: Any) -> Callable[[], Run]:
    """So many reviews to train on and 300 to validate with."""

    def make() -> Run:
        texts, labels = reviews()
        path = folder() / f"{name}.csv"
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("review", "label", "split"))
            for row in range(count + 400):
                part = "train" if row < count else "validation" if row < count + 300 else "test"
                writer.writerow((texts[row], ("negative", "positive")[labels[row]], part))
        return trained(name, path, {"model.name": "ngrams", **dotted(settings)})

    return make


# Runs of modules and loaders of the user's own


def tensors(part: str, scale: float = 1.0) -> Pairs:
    """(images, 64) float32 from 0 to `scale`, mean removed as every recipe does, and labels."""
    pixels, labels = digits()[part]
    return (torch.from_numpy(pixels).float().flatten(1) / 255 - 0.3) * scale, torch.from_numpy(labels)


def raw_tensors(part: str) -> Pairs:
    """As the files have them: 0 to 255."""
    pixels, labels = digits()[part]
    return torch.from_numpy(pixels).float().flatten(1), torch.from_numpy(labels)


def loader(pairs: Pairs, *, shuffle: bool = True) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*pairs), batch_size=64, shuffle=shuffle)


def net(widths: Sequence[int] = (64, 64), activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """64 pixels to 10 digits, with PyTorch's first weights."""
    torch.manual_seed(0)
    sizes = [64, *widths]
    layers: list[nn.Module] = []
    for size_in, size_out in itertools.pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), activation()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 10))


def own(
    name: str,
    model: Callable[[], nn.Module] = net,
    *,
    train: Callable[[], Any] = lambda: loader(tensors("train")),
    validation: Callable[[], Any] = lambda: loader(tensors("validation"), shuffle=False),
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
    loss: Callable[[], nn.Module] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Callable[[], Run]:
    """A run by `danlu.train_own`, also where it fails."""

    def make() -> Run:
        torch.set_num_threads(1)
        module = model()
        trainer = danlu.Trainer(
            module,
            train(),
            validation(),
            loss() if loss else None,
            optimizer(module) if optimizer else None,
            settings={"epochs": 8, "learning_rate": 2e-3, **(settings or {})},
        )
        free = free_name(name)
        try:
            return danlu.train_own(trainer, free, data="digits")
        except DanluError:
            return Run(runs_folder() / free)

    return make


def with_dead_biases() -> nn.Module:
    model = net()
    for layer in list(model)[:-1]:
        if isinstance(layer, nn.Linear):
            nn.init.constant_(layer.bias, -10.0)
    return model


def deep(scale: float) -> nn.Module:
    """16 layers with He's first weights times `scale`."""
    model = net([64] * 16)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
            layer.weight.data.mul_(scale)
    return model


def constant_images(part: str) -> Pairs:
    images, labels = tensors(part)
    return images[:1].expand_as(images).clone(), labels


def frozen_backbone() -> nn.Module:
    """Random layers that do not learn below a head that does: who loads a backbone without its weights."""
    model = net([64] * 6)
    for parameter in list(model)[0:-1]:
        parameter.requires_grad_(False)
    return model


def only_the_head(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model[-1].parameters(), lr=2e-3)  # type: ignore[index]


def momentum(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


class Detached(nn.Module):
    """A `.detach()` forgotten between the layers and the head."""

    def __init__(self) -> None:
        super().__init__()
        model = net([64] * 6)
        self.body, self.head = model[:-1], model[-1]

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(images).detach())
        return scores


class Normed(nn.Sequential):
    """12 layers with batch norm and dropout."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for size_in in (64, *[64] * 11):
            layers += [nn.Linear(size_in, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.05)]
        super().__init__(*layers, nn.Linear(64, 10))


class AlwaysEval(Normed):
    """`train()` keeps the mode of evaluation, as a copied line for fine-tuning does."""

    def train(self, mode: bool = True) -> AlwaysEval:
        super().train(False)
        return self


def sorted_by_class(part: str) -> Pairs:
    images, labels = tensors(part)
    order = labels.argsort(stable=True)
    return images[order], labels[order]


def with_a_nan() -> Pairs:
    images, labels = tensors("train")
    images[700, 30] = float("nan")
    return images, labels


class Slow:
    """Batches that come later than the network needs them."""

    def __init__(self, seconds: float) -> None:
        self.loader, self.seconds = loader(tensors("train")), seconds
        self.generator = self.loader.generator

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            time.sleep(self.seconds)
            yield batch


class LateNan(Slow):
    """An augmentation that makes a NaN in the third epoch, and none when the batch is read again."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.given = 0

    def __iter__(self) -> Iterator[Any]:
        for images, labels in self.loader:
            self.given += 1
            yield (images * (float("nan") if self.given == 45 else 1.0)), labels


def with_nan_to_validate() -> Pairs:
    images, labels = tensors("validation")
    images[7, 3] = float("nan")
    return images, labels


def mostly_one_image(part: str) -> Pairs:
    """Three in four images are the same one."""
    images, labels = tensors(part)
    images[torch.arange(len(images)) % 4 > 0] = images[0].clone()
    return images, labels


def yes_or_no(part: str) -> Pairs:
    """Labels (images, 1): whether it is a digit above 4."""
    images, labels = tensors(part)
    return images, (labels > 4).float().unsqueeze(1)


def one_score(*last: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1), *last)


def binary(name: str, *last: nn.Module, loss: Callable[[], nn.Module]) -> Callable[[], Run]:
    return own(
        name,
        lambda: one_score(*last),
        loss=loss,
        train=lambda: loader(yes_or_no("train")),
        validation=lambda: loader(yes_or_no("validation"), shuffle=False),
    )


class StandingStill(torch.optim.SGD):
    """An optimizer whose `step` does nothing."""

    def step(self, closure: Any = None) -> None:
        return None


class Negated(nn.Module):
    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        return -nn.functional.cross_entropy(scores, labels)


def with_one_dead_layer() -> nn.Module:
    model = net([64, 64, 64])
    nn.init.constant_(model[2].bias, -10.0)
    return model


def with_softmax() -> nn.Module:
    return nn.Sequential(*net(), nn.Softmax(1))


def with_zero_weights() -> nn.Module:
    """Two layers whose first weights are 0: every unit of them stays like its neighbour."""
    model = net([64, 64, 64], nn.Tanh)
    for place in (2, 4):
        nn.init.zeros_(model[place].weight)
        nn.init.zeros_(model[place].bias)
    return model


def one_class_counts_most() -> nn.Module:
    weight = torch.ones(10)
    weight[3] = 500.0
    return nn.CrossEntropyLoss(weight)


RATE = 2e-3  # danlu's recipe for mlp; 3e-3 for ngrams
FAST, SLOW_RATE, FAST_TEXTS, SLOW_TEXTS = RATE * 1000, RATE / 1000, 3.0, 3e-6
DEEP = [64] * 20

SICK: dict[str, Case] = {
    "rate_times_1000": Case(
        "learning rate × 1000",
        ("rate_too_high", "exploding_loss"),
        on_digits("rate-times-1000", training__learning_rate=FAST),
        on_digits("rate-times-1000-well"),
        curable=True,
    ),
    "loss_is_infinite": Case(
        "learning rate of 1e12 with sgd",
        ("exploding_loss",),
        on_digits("loss-is-infinite", training__learning_rate=1e12, training__optimizer="sgd"),
        on_digits("loss-is-infinite-well", training__optimizer="sgd"),
        curable=True,
    ),
    "rate_by_1000": Case(
        "learning rate ÷ 1000",
        ("rate_too_low",),
        on_digits("rate-by-1000", training__learning_rate=SLOW_RATE),
        on_digits("rate-by-1000-well"),
        curable=True,
    ),
    "deep_sigmoid": Case(
        "mlp of 20 sigmoid layers",
        ("vanishing_gradients",),
        on_digits("deep-sigmoid", model__widths=DEEP, model__activation="sigmoid", training__epochs=15),
        on_digits(
            "deep-sigmoid-well", model__widths=DEEP, model__batch_norm=True, model__dropout=0, training__epochs=15
        ),
        curable=True,
    ),
    "dead_biases": Case(
        "biases of −10 before ReLU",
        ("dead_units",),
        own("dead-biases", with_dead_biases),
        own("dead-biases-well"),
    ),
    "first_weights_times_3": Case(
        "16 layers, first weights × 3",
        ("exploding_gradients",),
        own("first-weights-times-3", lambda: deep(3.0)),
        own("first-weights-times-3-well", lambda: deep(1.0)),
    ),
    "labels_shuffled": Case(
        "labels of train shuffled",
        ("shuffled_labels",),
        on_arrays("labels-shuffled", with_shuffled_labels),
        on_arrays("labels-shuffled-well", digits),
    ),
    "labels_flipped": Case(
        "30 % of all labels wrong",
        ("noisy_labels",),
        on_arrays("labels-flipped", with_noisy_labels),
        on_arrays("labels-flipped-well", digits),
    ),
    "rare_class": Case(
        "5 % of hardly readable digits are eights",
        ("imbalance",),
        on_arrays("rare-class", partial(rare_eights, 0.05)),
        on_arrays("rare-class-well", partial(rare_eights, 0.05), training__sampling="undersample"),
        curable=True,
        score="macro_recall",
    ),
    "one_answer": Case(
        "loss that weighs one class 500 times",
        ("class_collapse",),
        own("one-answer", loss=one_class_counts_most),
        own("one-answer-well", loss=nn.CrossEntropyLoss),
        score="macro_recall",
    ),
    "raw_pixels": Case(
        "pixels of 0 to 255 as they are",
        ("wrong_input_range",),
        own("raw-pixels", optimizer=momentum, train=lambda: loader(raw_tensors("train")),
            validation=lambda: loader(raw_tensors("validation"), shuffle=False)),
        own("raw-pixels-well", optimizer=momentum),
    ),
    "equal_images": Case(
        "all images equal",
        ("constant_input",),
        own("equal-images", train=lambda: loader(constant_images("train")),
            validation=lambda: loader(constant_images("validation"), shuffle=False)),
        own("equal-images-well"),
    ),
    "frozen_backbone": Case(
        "all but the head has requires_grad=False",
        ("frozen_parameters",),
        own("frozen-backbone", frozen_backbone),
        own("frozen-backbone-well", lambda: net([64] * 6)),
    ),
    "head_alone": Case(
        "only the head is given to the optimizer",
        ("frozen_parameters",),
        own("head-alone", lambda: net([64] * 6), optimizer=only_the_head),
        own("head-alone-well", lambda: net([64] * 6)),
    ),
    "detached": Case(
        "detach() before the head",
        ("frozen_parameters",),
        own("detached", Detached),
        own("detached-well", lambda: net([64] * 6)),
    ),
    "always_eval": Case(
        "train() keeps the mode of evaluation",
        ("eval_mode",),
        own("always-eval", AlwaysEval),
        own("always-eval-well", Normed),
    ),
    "sorted_batches": Case(
        "batches sorted by class",
        ("unshuffled_data",),
        own("sorted-batches", train=lambda: loader(sorted_by_class("train"), shuffle=False),
            optimizer=momentum),
        own("sorted-batches-well", optimizer=momentum),
    ),
    "leak": Case(
        "half of validation stands in train",
        ("leaking_data",),
        on_arrays("leak", with_a_leak, data__gate="off", model__dropout=0),
        on_arrays("leak-well", without_the_leak, model__dropout=0),
        is_worse=False,
    ),
    "by_heart": Case(
        "60 examples, widths 1024 and 1024, no dropout",
        ("overfitting",),
        on_arrays("by-heart", lambda: first_of_train(60), model__widths=[1024, 1024], model__dropout=0,
                  training__epochs=60, training__label_smoothing=0),
        on_arrays("by-heart-well", digits, model__widths=[1024, 1024], model__dropout=0, training__epochs=5),
    ),
    "two_units": Case(
        "mlp with 2 hidden units",
        ("underfitting",),
        on_digits("two-units", model__widths=[2]),
        on_digits("two-units-well"),
        curable=True,
    ),
    "one_epoch": Case(
        "one epoch of 5 steps",
        ("underfitting",),
        on_digits("one-epoch", training__epochs=1, training__batch_size=256),
        on_digits("one-epoch-well"),
        curable=True,
    ),
    "heavy_decay": Case(
        "weight decay of 20",
        ("strong_weight_decay",),
        on_digits("heavy-decay", training__weight_decay=20),
        on_digits("heavy-decay-well"),
        curable=True,
    ),
    "nan_pixel": Case(
        "one pixel is NaN",
        ("bad_numbers",),
        own("nan-pixel", train=lambda: loader(with_a_nan())),
        own("nan-pixel-well"),
    ),
    "slow_source": Case(
        "every batch comes 20 ms late",
        ("slow_loading",),
        own("slow-source", train=lambda: Slow(0.02), settings={"epochs": 5}),
        own("slow-source-well", settings={"epochs": 5}),
        is_worse=False,
    ),
    "softmax_twice": Case(
        "softmax before the cross entropy",
        ("softmax_before_loss",),
        own("softmax-twice", with_softmax),
        own("softmax-twice-well"),
    ),
    "twelve_examples": Case(
        "validation part of 12 examples",
        ("noisy_validation",),
        on_digits("twelve-examples", data__split=[0.79, 0.01, 0.2]),
        on_digits("twelve-examples-well"),
        is_worse=False,
    ),
    "early_drop": Case(
        "rate ÷ 1000 after the first epoch",
        ("plateau", "rate_too_low"),
        on_digits("early-drop", training__schedule="step", training__step_epochs=1, training__step_factor=0.001,
                  training__epochs=15),
        on_digits("early-drop-well"),
        curable=True,
    ),
    "zero_weights": Case(
        "first weights of two layers are 0",
        ("loss_does_not_move",),
        own("zero-weights", with_zero_weights),
        own("zero-weights-well", lambda: net([64, 64, 64], nn.Tanh)),
    ),
    "texts_rate_times_1000": Case(
        "texts: learning rate × 1000, constant",
        ("rate_too_high", "exploding_loss"),
        on_reviews("texts-rate-times-1000", training__learning_rate=FAST_TEXTS, training__schedule="constant",
                   data__split=HALVES),
        on_reviews("texts-rate-times-1000-well", data__split=HALVES),
        curable=True,
    ),
    "texts_rate_by_1000": Case(
        "texts: learning rate ÷ 1000",
        ("rate_too_low",),
        on_reviews("texts-rate-by-1000", training__learning_rate=SLOW_TEXTS),
        on_reviews("texts-rate-by-1000-well"),
        curable=True,
    ),
    "texts_labels_shuffled": Case(
        "texts: labels shuffled",
        ("shuffled_labels",),
        shuffled_reviews("texts-labels-shuffled"),
        on_reviews("texts-labels-shuffled-well"),
    ),
    "texts_rare_class": Case(
        "texts: 5 % of the reviews are positive",
        ("imbalance",),
        rare_reviews("texts-rare-class", 0.05),
        rare_reviews("texts-rare-class-well", 0.05, training__sampling="undersample"),
        curable=True,
        score="macro_recall",
    ),
    "texts_by_heart": Case(
        "texts: 60 reviews, no dropout, 30 epochs of 8 steps",
        ("overfitting",),
        few_reviews("texts-by-heart", 60, training__epochs=30, training__batch_size=8, training__schedule="constant",
                    training__label_smoothing=0, model__dropout=0, model__gram_dropout=0),
        few_reviews("texts-by-heart-well", 1400),
    ),
    "nan_to_validate": Case(
        "one pixel to validate with is NaN",
        ("bad_numbers",),
        own("nan-to-validate", validation=lambda: loader(with_nan_to_validate(), shuffle=False)),
        own("nan-to-validate-well"),
    ),
    "late_nan": Case(
        "an augmentation makes a NaN in the third epoch",
        ("exploding_loss", "bad_numbers"),
        own("late-nan", train=LateNan),
        own("late-nan-well"),
    ),
    "mostly_one_image": Case(
        "three in four images are the same",
        ("constant_input",),
        own("mostly-one-image", train=lambda: loader(mostly_one_image("train"))),
        own("mostly-one-image-well"),
    ),
    "sigmoid_twice": Case(
        "sigmoid before a loss that takes it itself",
        ("softmax_before_loss",),
        binary("sigmoid-twice", nn.Sigmoid(), loss=nn.BCEWithLogitsLoss),
        binary("sigmoid-twice-well", loss=nn.BCEWithLogitsLoss),
        is_worse=False,
    ),
    "probabilities_to_nll": Case(
        "softmax before NLLLoss, which wants logarithms",
        ("softmax_before_loss",),
        own("probabilities-to-nll", with_softmax, loss=nn.NLLLoss),
        own("probabilities-to-nll-well", lambda: nn.Sequential(*net(), nn.LogSoftmax(1)), loss=nn.NLLLoss),
    ),
    "negated_loss": Case(
        "the loss with the wrong sign",
        ("exploding_loss",),
        own("negated-loss", loss=Negated),
        own("negated-loss-well"),
    ),
    "standing_still": Case(
        "an optimizer that does nothing",
        ("frozen_parameters",),
        own("standing-still", optimizer=lambda model: StandingStill(model.parameters(), lr=0.05)),
        own("standing-still-well", optimizer=momentum),
    ),
    "one_dead_layer": Case(
        "biases of −10 in the second of three layers",
        ("dead_units",),
        own("one-dead-layer", with_one_dead_layer),
        own("one-dead-layer-well", lambda: net([64, 64, 64])),
    ),
    "fours_sorted": Case(
        "batches of 4, sorted by class",
        ("unshuffled_data",),
        own("fours-sorted", train=lambda: DataLoader(TensorDataset(*sorted_by_class("train")), batch_size=4),
            settings={"epochs": 3}),
        own("fours-sorted-well", train=lambda: DataLoader(TensorDataset(*tensors("train")), batch_size=4, shuffle=True),
            settings={"epochs": 3}),
    ),
}  # fmt: skip

# Other severities, seeds, models and data, which take longer.
SICK_SLOW: dict[str, Case] = {
    "rate_times_100": Case(
        "learning rate × 100: good at first, then all is lost",
        ("rate_too_high",),
        on_digits("rate-times-100", training__learning_rate=RATE * 100, training__seed=1),
        on_digits("rate-times-100-well", training__seed=1),
        curable=True,
        is_worse=False,
    ),
    "rate_by_100": Case(
        "learning rate ÷ 100",
        ("rate_too_low",),
        on_digits("rate-by-100", training__learning_rate=RATE / 100, training__seed=1),
        on_digits("rate-by-100-well", training__seed=1),
        curable=True,
    ),
    "digit_cnn_rate_times_100": Case(
        "digit_cnn, learning rate × 100",
        ("rate_too_high",),
        on_digits("digit-cnn-rate", model__name="digit_cnn", training__learning_rate=0.2, training__epochs=5),
        on_digits("digit-cnn-rate-well", model__name="digit_cnn", training__epochs=5),
        curable=True,
    ),
    "textcnn_rate_by_100": Case(
        "textcnn, learning rate ÷ 100",
        ("rate_too_low",),
        on_reviews("textcnn-rate", model__name="textcnn", training__learning_rate=1e-5, training__epochs=3),
        on_reviews("textcnn-rate-well", model__name="textcnn", training__epochs=3),
        curable=True,
    ),
    "thirty_layers": Case(
        "mlp of 30 layers without batch norm",
        ("underfitting", "vanishing_gradients"),
        on_digits("thirty-layers", model__widths=[64] * 30, model__activation="tanh", training__epochs=8),
        on_digits("thirty-layers-well", training__epochs=8),
        curable=True,
    ),
    "three_units": Case(
        "mlp with 3 hidden units",
        ("underfitting",),
        on_digits("three-units", model__widths=[3]),
        on_digits("three-units-well"),
        curable=True,
    ),
    "labels_flipped_20": Case(
        "20 % of all labels wrong",
        ("noisy_labels",),
        on_arrays("labels-flipped-20", partial(with_noisy_labels, 0.2), training__seed=1),
        on_arrays("labels-flipped-20-well", digits),
    ),
    "labels_flipped_45": Case(
        "45 % of all labels wrong",
        ("noisy_labels",),
        on_arrays("labels-flipped-45", partial(with_noisy_labels, 0.45), training__seed=1),
        on_arrays("labels-flipped-45-well", digits),
    ),
    "labels_shuffled_own": Case(
        "labels shuffled, of a module that has not learnt them by heart yet",
        ("shuffled_labels",),
        own("labels-shuffled-own", train=lambda: loader((tensors("train")[0],
            torch.from_numpy(shuffled(digits()["train"][1])))), settings={"epochs": 20}),
        own("labels-shuffled-own-well", settings={"epochs": 20}),
    ),
}  # fmt: skip


def two_digits(first: int, second: int, share: float = 0.5) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Two digits alone, of which the second makes up this share at most."""
    parts = {}
    for part, (pixels, labels) in digits().items():
        one, other = np.flatnonzero(labels == first), np.flatnonzero(labels == second)
        rows = np.sort(np.concatenate([one, other[: round(len(one) * share / (1 - share))]]))
        parts[part] = pixels[rows], labels[rows]
    return parts


class WithSpareLayer(nn.Module):
    """A large layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare = net(), nn.Linear(300, 300)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.used(images)
        return scores


def head_on_learnt() -> nn.Module:
    """Learnt layers that are frozen on purpose, and a new head."""
    model = net([128, 64])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    images, labels = tensors("train")
    for _ in range(150):
        nn.functional.cross_entropy(model(images[:700]), labels[:700]).backward()
        optimizer.step()
        optimizer.zero_grad()
    for layer in list(model)[:-1]:
        layer.requires_grad_(False)
    nn.init.normal_(model[-1].weight, std=0.05)
    return model


def scaled_inside() -> nn.Module:
    """Batch norm first, so that pixels of 0 to 255 do no harm."""
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm1d(64), *net())


def large_targets(part: str) -> Pairs:
    """A regression whose targets are hundreds."""
    images, _ = tensors(part)
    return images, 500 + 200 * images[:, 10:20].sum(1, keepdim=True)


def rare_and_noisy(part: str) -> Pairs:
    """5 % are eights (1)."""
    images, labels = tensors(part)
    images = images + 0.3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    others, eights = (labels != 8).nonzero().flatten(), (labels == 8).nonzero().flatten()
    rows = torch.cat([others, eights[: len(others) // 20]])
    return images[rows], (labels[rows] == 8).long()


def drawn_equally() -> DataLoader[Any]:
    """Batches in which both classes are as frequent."""
    images, labels = rare_and_noisy("train")
    weights = (1 / torch.bincount(labels).float())[labels]
    sampler = torch.utils.data.WeightedRandomSampler(weights.tolist(), len(labels))
    return DataLoader(TensorDataset(images, labels), 64, sampler=sampler)


# Name → a run as danlu trains by itself, or of a module of the user's own that is made right.
HEALTHY: dict[str, Callable[[], Run]] = {
    "mlp": on_digits("mlp"),
    "mlp_seed_1": on_digits("mlp-seed-1", training__seed=1),
    "mlp_gelu_seed_2": on_digits("mlp-gelu-seed-2", model__activation="gelu", training__seed=2),
    "simple_cnn": on_digits("simple-cnn", model__name="simple_cnn"),
    "digit_cnn": on_digits("digit-cnn", model__name="digit_cnn"),
    "ngrams": on_reviews("ngrams"),
    "ngrams_seed_1": on_reviews("ngrams-seed-1", training__seed=1),
    "ngrams_seed_2_other_split": on_reviews("ngrams-seed-2", training__seed=2, data__split_seed=1),
    "sgd": on_digits("sgd", training__optimizer="sgd", training__learning_rate=0.05),
    "cosine": on_digits("cosine", training__schedule="cosine"),
    "clipped": on_digits("clipped", training__clip_norm=1.0),
    "seventy_thirty": rare_reviews("seventy-thirty", 0.3),
    "binary": on_arrays("binary", partial(two_digits, 4, 9)),
    "binary_seventy_thirty": on_arrays("binary-seventy-thirty", partial(two_digits, 3, 8, 0.3)),
    "own": own("own", settings={"epochs": 30}),
    "own_momentum": own("own-momentum", optimizer=momentum, settings={"epochs": 20}),
    "own_normed": own("own-normed", Normed, settings={"epochs": 25}),
    "own_spare_layer": own("own-spare-layer", WithSpareLayer, settings={"epochs": 12}),
    "own_head_on_learnt": own("own-head-on-learnt", head_on_learnt, settings={"epochs": 12}),
    "own_scaled_inside": own("own-scaled-inside", scaled_inside, train=lambda: loader(raw_tensors("train")),
                             validation=lambda: loader(raw_tensors("validation"), shuffle=False)),
    "own_drawn_equally": own("own-drawn-equally", lambda: nn.Sequential(*list(net())[:-1], nn.Linear(64, 2)),
                             train=drawn_equally,
                             validation=lambda: loader(rare_and_noisy("validation"), shuffle=False)),
}  # fmt: skip
# Not classified: no accuracy to be judged by.
HEALTHY_NUMBERS: dict[str, Callable[[], Run]] = {
    "own_sigmoid_once": binary("own-sigmoid-once", nn.Sigmoid(), loss=nn.BCELoss),
    "own_large_targets": own("own-large-targets", one_score, loss=nn.MSELoss,
                             train=lambda: loader(large_targets("train")),
                             validation=lambda: loader(large_targets("validation"), shuffle=False),
                             settings={"epochs": 20, "learning_rate": 1e-2}),
}  # fmt: skip
# The same, and takes longer than 8 seconds on one core.
HEALTHY_SLOW: dict[str, Callable[[], Run]] = {
    "simple_cnn_seed_1": on_digits("simple-cnn-seed-1", model__name="simple_cnn", training__seed=1),
    "digit_cnn_seed_1": on_digits("digit-cnn-seed-1", model__name="digit_cnn", training__seed=1),
    "vgg_cnn": on_digits("vgg-cnn", model__name="vgg_cnn"),
    "vgg_cnn_seed_1": on_digits("vgg-cnn-seed-1", model__name="vgg_cnn", training__seed=1),
    "fast_cnn": on_digits("fast-cnn", model__name="fast_cnn"),
    "textcnn": on_reviews("textcnn", model__name="textcnn"),
    "textcnn_seed_1": on_reviews("textcnn-seed-1", model__name="textcnn", training__seed=1),
    "bilstm": on_reviews("bilstm", model__name="bilstm", training__epochs=5),
}
