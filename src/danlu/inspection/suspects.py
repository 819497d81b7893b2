"""Wrong labels: found where models that have not seen an example contradict its label (confident learning).

Images: a `fast_cnn` of at most 32 pixels a side a fold; texts: logistic regression on TF-IDF of one or two signs. Both
were chosen by how many labels flipped on purpose they find in a few minutes on two cores (docs/LOG.md).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from danlu.base import log
from danlu.base.config import read_config
from danlu.base.errors import DataError
from danlu.checks.finding import counted, listed
from danlu.data.augment import Augmentation
from danlu.data.batches import ImageBatches
from danlu.data.prepare import Part, PreparedData
from danlu.inputs.images import ImageRecipe, normalize
from danlu.models.build import build_model
from danlu.models.shapes import ImageShape
from danlu.training.trainer import Trainer

# Of the labels flipped on purpose, 20 of 20 lie below in CIFAR-10 (6,000) and digits, 97 of 100 in Fashion-MNIST.
DOUBTFUL = 0.2
MANY = 20_000  # examples from which 3 folds do, instead of 5
VISITS = 600_000  # examples a fold's training sees
EPOCHS_BETWEEN = (3, 30)
SIDES_BETWEEN = (8, 32)
EARLY_SHARE = 0.71  # of the side, in the first third of the epochs
SMALLEST_EARLY_SIDE = 12
CHUNK = 500
STATISTICS_FROM = 5000
RECIPE = {
    "optimizer": "muon",
    "learning_rate": 0.07,
    "weight_decay": 5e-4,
    "schedule": "warmup_linear",
    "warmup": 0.15,
    "label_smoothing": 0.1,
    "channels_last": True,
}


def find_suspects(prepared: PreparedData, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """((examples, classes) probabilities, indices of suspect examples, the least believable label first).

    Over the examples that are in a part, in the order of the data. Each row of probabilities comes from a model
    trained without that example and its copies; suspect is a label of a probability below 0.2 that another class beats,
    ranked by that probability (Northcutt et al., 2021, arXiv:1911.00068, as cleanlab has it). Classes with fewer
    different examples than there are folds are left out, which is said, and their rows are NaN. Raises `DataError`
    where fewer than two classes remain.
    """
    from cleanlab.filter import find_label_issues

    used = np.sort(np.concatenate([part.indices for part in prepared.parts.values()]))
    labels = prepared.examples.labels[used]
    number = 3 if len(labels) >= MANY else 5
    contents = np.unique([prepared.manifest[i].sha256 for i in used], return_inverse=True)[1]
    kept = np.flatnonzero(np.isin(labels, _large_classes(labels, contents, prepared.classes, number)))
    present, own = np.unique(labels[kept], return_inverse=True)
    folds = _folds(own, contents[kept], number, seed)
    if prepared.kind == "images":
        found = _of_images(_small_pixels(prepared, used[kept]), own, folds, seed)
    else:
        found = _of_texts([str(prepared.examples.items[i]) for i in used[kept]], own, folds)
    ranked = find_label_issues(
        own, found, filter_by="predicted_neq_given", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    suspects = np.asarray(ranked, dtype=np.int64)
    suspects = suspects[found[suspects, own[suspects]] < DOUBTFUL]
    probabilities = np.full((len(labels), len(prepared.classes)), np.nan)
    probabilities[kept] = 0
    probabilities[np.ix_(kept, present)] = found
    return probabilities, kept[suspects]


def _large_classes(labels: np.ndarray, contents: np.ndarray, classes: tuple[str, ...], number: int) -> np.ndarray:
    """The classes with at least `number` different examples."""
    different = np.unique(np.stack([labels, contents], axis=1), axis=0)[:, 0]
    counts = np.bincount(different, minlength=len(classes))
    large = np.flatnonzero(counts >= number)
    small = [classes[i] for i in np.flatnonzero((counts > 0) & (counts < number))]
    if len(large) < 2:
        raise DataError(
            f"fewer than two classes have {number} different examples: no label can be cross-validated",
            hint="inspect without `--labels`",
        )
    if small:
        told = counted(len(small), "class has", "classes have")
        log.warn(f"{told} fewer than {number} different examples, whose labels are not looked at: {listed(small)}")
    return large


def _folds(labels: np.ndarray, contents: np.ndarray, number: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Stratified, with equal contents in one fold: a copy of an example would teach a model its label."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if len(np.unique(contents)) == len(contents):
        return list(StratifiedKFold(number, shuffle=True, random_state=seed).split(labels, labels))
    grouped = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    return list(grouped.split(labels, labels, contents))


def _of_texts(texts: list[str], labels: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline

    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), min_df=2, sublinear_tf=True, dtype=np.float32)
    model = make_pipeline(vectors, LogisticRegression(C=4, max_iter=300))
    found: np.ndarray = cross_val_predict(
        model, np.array(texts, dtype=object), labels, cv=folds, method="predict_proba"
    )
    return found


def _of_images(
    pixels: np.ndarray, labels: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]], seed: int
) -> np.ndarray:
    num_classes = int(labels.max()) + 1
    count, channels, height, width = pixels.shape
    sample = pixels[:: max(1, count // STATISTICS_FROM)].astype(np.float32) / 255
    mean = tuple(sample.mean((0, 2, 3)).tolist())
    std = tuple((sample.std((0, 2, 3)) + 1e-3).tolist())
    recipe = ImageRecipe(height, width, channels, mean=mean, std=std)
    found = np.zeros((count, num_classes))
    low, high = EPOCHS_BETWEEN
    epochs = max(low, min(high, round(VISITS / (count * (len(folds) - 1)))))
    for number, (seen, unseen) in enumerate(folds):
        log.say(f"  model {number + 1} of {len(folds)}: {len(seen):,} images, {epochs} epochs")
        part = Part(pixels[seen], labels[seen].astype(np.int64), np.arange(len(seen)))
        model = _trained(part, recipe, num_classes, epochs, seed + number)
        found[unseen] = _answers(model, pixels[unseen], recipe)
    return found


def _small_pixels(prepared: PreparedData, used: np.ndarray) -> np.ndarray:
    """(used, channels, height, width) uint8, sides between 8 and 32 pixels: the network reads no smaller ones, and
    larger ones would take too long."""
    first = next(iter(prepared.parts.values())).inputs[:1]
    smallest, largest = SIDES_BETWEEN
    size = tuple(max(smallest, min(largest, side)) for side in first.shape[2:])
    place = np.full(len(prepared.examples), -1)
    place[used] = np.arange(len(used))
    out = np.empty((len(used), first.shape[1], *size), dtype=np.uint8)
    for part in prepared.parts.values():
        for start in range(0, len(part), CHUNK):
            chunk = part.inputs[start : start + CHUNK]
            if chunk.shape[2:] != size:
                images = torch.from_numpy(chunk)
                chunk = functional.interpolate(images, size, mode="bilinear", antialias=True).numpy()
            places = place[part.indices[start : start + CHUNK]]
            out[places[places >= 0]] = chunk[places >= 0]
    return out


def _trained(part: Part, recipe: ImageRecipe, num_classes: int, epochs: int, seed: int) -> torch.nn.Module:
    """The last weights count: what validates here is a few of the examples that are learnt."""
    side, has_colour = min(recipe.height, recipe.width), recipe.channels == 3
    early = round(EARLY_SHARE * side) if side >= SMALLEST_EARLY_SIDE else 0
    changes = Augmentation(
        crop=side // (8 if has_colour else 14) if epochs >= 8 else 0,
        flip=has_colour,
        early_size=early,
        early_epochs=epochs // 3 if early else 0,
    )
    batch_size = max(32, min(256, len(part) // 20))
    batches = ImageBatches(part, recipe, batch_size=batch_size, seed=seed, augmentation=changes)
    model = build_model("fast_cnn", ImageShape(*recipe.shape), num_classes, seed=seed)
    settings = read_config(settings={"training": {**RECIPE, "epochs": epochs, "seed": seed}}).settings.training
    some = [next(iter(batches.epoch(epochs - 1)))]
    with log.silence():
        return Trainer(model, batches, some, settings=settings).fit().model


@torch.inference_mode()
def _answers(model: torch.nn.Module, pixels: np.ndarray, recipe: ImageRecipe) -> np.ndarray:
    """(images, classes): the mean of the scores of shifted views, and of their mirror images where there is colour."""
    model.eval()
    answers = []
    for start in range(0, len(pixels), CHUNK):
        images = normalize(torch.from_numpy(pixels[start : start + CHUNK]).float(), recipe)
        scores = torch.stack([model(view) for view in _views(images.contiguous(memory_format=torch.channels_last))])
        answers.append(scores.mean(0).double().softmax(1).numpy())
    return np.concatenate(answers)


def _views(images: Tensor) -> list[Tensor]:
    height, width = images.shape[2:]
    shift = min(height, width) // 14
    found = [images]
    if shift:
        wide = functional.pad(images, (shift,) * 4, mode="replicate")
        corners = [(top, left) for top in (0, 2 * shift) for left in (0, 2 * shift)]
        found += [wide[:, :, top : top + height, left : left + width] for top, left in corners]
    return found + [view.flip(3) for view in found] if images.shape[1] == 3 else found
