"""Training that was cut anywhere goes on to the same bits, and says so when it cannot."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from danlu.base.errors import ConfigError, ModelError
from danlu.data.augment import Augmentation
from danlu.data.batches import Batch, Batches, FixedBatches, ImageBatches, TextBatches
from danlu.data.decode import PixelRows
from danlu.data.prepare import Part
from danlu.inputs.images import ImageRecipe
from danlu.models.build import build_model
from danlu.models.shapes import ImageShape, TextShape
from danlu.training.checkpoints import load_checkpoint
from danlu.training.interrupt import Interrupted
from danlu.training.keeper import Hooks
from danlu.training.trainer import Trainer

EPOCHS, STEPS = 3, 6
RECIPE = ImageRecipe(12, 12, 1, mean=(0.5,), std=(0.25,))


def image_part(count: int = 44) -> Part:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    pixels = (rng.integers(0, 60, (count, 1, 12, 12)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    return Part(pixels, labels, np.arange(count))


def text_part(count: int = 44) -> Part:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    rows = [list(rng.integers(2, 9, size=rng.integers(2, 9)) + 8 * label) for label in labels]
    return Part(rows, labels, np.arange(count))


class Stopping:
    """Batches that send this process a signal when so many have been read."""

    def __init__(self, batches: Batches, stop_at: int | None) -> None:
        self.batches, self.stop_at, self.read = batches, stop_at, 0

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        for batch in self.batches.epoch(number, start):
            if self.read == self.stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            self.read += 1
            yield batch


def make_trainer(kind: str, settings: dict[str, Any], cut: tuple[str, int] | None, part: Part | None = None) -> Trainer:
    sampling = settings.get("sampling", "shuffle")
    train: Batches
    if kind == "vgg_cnn":
        part = part or image_part()
        changes = Augmentation(crop=2, flip=True, rotation=10, contrast=0.3, erasing=0.5)
        train = ImageBatches(part, RECIPE, batch_size=8, seed=3, sampling=sampling, augmentation=changes)
        train.chunk = 16  # two batches are prepared at once, so that a cut can be inside such a stretch
        validation: Batches = FixedBatches(image_part(), RECIPE, batch_size=16)
        model = build_model(kind, ImageShape(1, 12, 12), 3, {"widths": [4, 8], "hidden_size": 8}, seed=1)
    else:
        train = TextBatches(text_part(), batch_size=8, seed=3, sampling=sampling)
        validation = FixedBatches(text_part(), None, batch_size=16)
        options = {"buckets": 64} if kind == "ngrams" else {"hidden_size": 8, "embedding_size": 4}
        model = build_model(kind, TextShape(40, 9), 3, options, seed=1)
    where, place = cut or ("", None)
    train = Stopping(train, place if where == "train" else None)
    validation = Stopping(validation, place if where == "validation" else None)
    settings = {"epochs": EPOCHS, "learning_rate": 0.02, **settings}
    return Trainer(model, train, validation, settings=settings)


def without_times(values: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's values but for what a clock told."""
    kept = {key: value for key, value in values.items() if key not in ("facts", "recorder")}
    rows = [{key: value for key, value in row.items() if "second" not in key} for row in values["history"]]
    return {**kept, "history": rows}


def state_hash(folder: Path) -> str:
    """One hash of weights, optimizer, schedule, running mean, stopping, history and best weights."""
    digest = hashlib.sha256()
    for mark in ("latest", "best"):
        saved = load_checkpoint(folder, mark)
        for name, value in sorted(saved.tensors.items()):
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
        if mark == "latest":
            digest.update(json.dumps(without_times(saved.values), sort_keys=True).encode())
    return digest.hexdigest()


SETTINGS: dict[str, dict[str, Any]] = {
    "adamw, one-cycle": {"optimizer": "adamw", "schedule": "one_cycle"},
    "sgd, plateau, running mean": {"optimizer": "sgd", "schedule": "plateau", "plateau_patience": 1, "ema": 0.9},
    "sgd, plateau that waits": {
        "optimizer": "sgd",
        "schedule": "plateau",
        "plateau_patience": 1,
        "learning_rate": 1.0,
        "momentum": 0.99,
    },
    "muon, warm-up, clipping": {"optimizer": "muon", "schedule": "warmup_cosine", "clip_norm": 0.5},
    "focal, balanced draws": {"loss": "focal", "sampling": "balanced", "optimizer": "rmsprop"},
    "accumulation, running mean": {"accumulation_steps": 2, "ema": 0.8, "optimizer": "adam"},
    "accumulation, last window short": {"accumulation_steps": 4, "patience": 2},
}
CUTS = {
    "before the first step": ("train", 0),
    "after the first step": ("train", 1),
    "in the middle of an epoch": ("train", STEPS + 3),
    "in the middle of a stretch of batches": ("train", STEPS + 4),
    "before the last step of an epoch": ("train", 2 * STEPS - 1),
    "at the start of validation": ("validation", 3),
    "in the middle of validation": ("validation", 4),
    "before the very last step": ("train", 3 * STEPS - 1),
    "in the last validation": ("validation", 8),
}


def test_plateau_of_the_matrix_waits_when_some_of_the_cuts_come(tmp_path: Path) -> None:
    make_trainer("vgg_cnn", SETTINGS["sgd, plateau that waits"], None).fit(tmp_path)
    first, second, _ = (row["validation_loss"] for row in load_checkpoint(tmp_path, "latest").values["history"])
    assert second > first


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("kind", ["vgg_cnn", "ngrams"])
def test_training_cut_anywhere_goes_on_to_the_same_bits(
    tmp_path: Path, kind: str, settings: dict[str, Any], cut: tuple[str, int]
) -> None:
    rows: dict[str, list[dict[str, Any]]] = {"whole": [], "cut": []}
    whole = make_trainer(kind, settings, None).fit(tmp_path / "whole", hooks=Hooks(on_steps=rows["whole"].extend))
    with pytest.raises(Interrupted) as caught:
        make_trainer(kind, settings, cut).fit(tmp_path / "cut", hooks=Hooks(on_steps=rows["cut"].extend))
    assert caught.value.exit_code == 143
    torch.manual_seed(999)  # whatever the process did before must not matter
    outcome = make_trainer(kind, settings, None).fit(tmp_path / "cut", hooks=Hooks(on_steps=rows["cut"].extend))
    assert state_hash(tmp_path / "cut") == state_hash(tmp_path / "whole")
    assert rows["cut"] == rows["whole"]  # every step once
    assert [row["step"] for row in rows["cut"]] == list(range(len(rows["cut"])))
    assert outcome.stop_reason == whole.stop_reason
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, outcome.model.state_dict()[name]), name


def test_cut_again_and_again_it_still_ends_the_same(tmp_path: Path) -> None:
    settings = SETTINGS["sgd, plateau, running mean"]
    make_trainer("vgg_cnn", settings, None).fit(tmp_path / "whole")
    for _ in range(EPOCHS * STEPS - 1):  # one step at a time
        with pytest.raises(Interrupted):
            make_trainer("vgg_cnn", settings, ("train", 1)).fit(tmp_path / "cut")
    make_trainer("vgg_cnn", settings, None).fit(tmp_path / "cut")
    assert state_hash(tmp_path / "cut") == state_hash(tmp_path / "whole")


def test_how_often_is_saved_changes_no_bit(tmp_path: Path) -> None:
    for every_steps in (1, 5, None):
        make_trainer("vgg_cnn", {"ema": 0.9}, None).fit(tmp_path / str(every_steps), every_steps=every_steps)
    assert len({state_hash(tmp_path / str(every)) for every in (1, 5, None)}) == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_pixels_on_disk_resume_with_another_number_of_reading_threads(tmp_path: Path, threads: int) -> None:
    part = image_part()
    np.save(tmp_path / "pixels.npy", part.inputs)
    on_disk = PixelRows(np.load(tmp_path / "pixels.npy", mmap_mode="r"), np.arange(len(part)))
    disk_part = replace(part, inputs=on_disk)
    make_trainer("vgg_cnn", {}, None).fit(tmp_path / "memory")
    with pytest.raises(Interrupted):
        make_trainer("vgg_cnn", {}, ("train", STEPS + 3), disk_part).fit(tmp_path / "disk")
    trainer = make_trainer("vgg_cnn", {}, None, disk_part)
    trainer.train_batches.batches.reader_threads = threads  # type: ignore[attr-defined]
    trainer.fit(tmp_path / "disk")
    assert state_hash(tmp_path / "disk") == state_hash(tmp_path / "memory")


def test_smaller_pieces_after_out_of_memory_are_kept_on_resume(tmp_path: Path) -> None:
    def trainer(cut: tuple[str, int] | None) -> Trainer:
        made = make_trainer("vgg_cnn", {}, cut)
        first = made.model[0]  # type: ignore[index]
        own = first.forward

        def hungry(inputs: Tensor) -> Tensor:
            if len(inputs) > 4 and made.model.training:
                raise torch.OutOfMemoryError("out of memory")
            scores: Tensor = own(inputs)
            return scores

        first.forward = hungry  # type: ignore[assignment]
        return made

    trainer(None).fit(tmp_path / "whole")
    with pytest.raises(Interrupted):
        trainer(("train", STEPS + 3)).fit(tmp_path / "cut")
    assert load_checkpoint(tmp_path / "cut", "latest").values["micro_rows"] == 4
    trainer(None).fit(tmp_path / "cut")
    assert state_hash(tmp_path / "cut") == state_hash(tmp_path / "whole")


# What would not be the same bits is told and refused.


def cut_run(folder: Path, settings: dict[str, Any] | None = None) -> None:
    with pytest.raises(Interrupted):
        make_trainer("vgg_cnn", settings or {}, ("train", STEPS + 3)).fit(folder)


def test_everything_that_differs_is_told_at_once_and_refused(tmp_path: Path) -> None:
    cut_run(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(ConfigError, match="3 problems in going on bit for bit") as caught:
            make_trainer("vgg_cnn", {"learning_rate": 0.01, "ema": 0.5}, None).fit(tmp_path)
    finally:
        torch.set_num_threads(threads)
    told = str(caught.value)
    assert f"training.threads         was {threads}, is {threads + 1}" in told
    assert "training.learning_rate   was 0.02, is 0.01" in told
    assert "training.ema             was 0, is 0.5" in told
    assert "--inexact" in told


def test_another_torch_or_processor_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_run(tmp_path)
    monkeypatch.setattr("danlu.training.trainer.processor_name", lambda: "another one")
    with pytest.raises(ConfigError, match=r"processor +was .*, is another one"):
        make_trainer("vgg_cnn", {}, None).fit(tmp_path)
    assert len(make_trainer("vgg_cnn", {}, None).fit(tmp_path, inexact=True).history) == EPOCHS


def test_other_examples_are_told(tmp_path: Path) -> None:
    cut_run(tmp_path)
    other = image_part()
    other.inputs[:] = 255 - other.inputs
    with pytest.raises(ConfigError, match="batch 4 of epoch 2 is not what it was"):
        make_trainer("vgg_cnn", {}, None, other).fit(tmp_path)


def test_another_architecture_is_refused_also_when_inexact(tmp_path: Path) -> None:
    cut_run(tmp_path)
    trainer = make_trainer("ngrams", {}, None)
    with pytest.raises(ModelError, match="does not fit this model and these settings"):
        trainer.fit(tmp_path, inexact=True)


def test_a_state_with_nan_is_never_saved(tmp_path: Path) -> None:
    trainer = make_trainer("vgg_cnn", {}, None)

    def poison(rows: Any) -> None:
        if rows[-1]["step"] == 9:
            with torch.no_grad():
                next(trainer.model.parameters()).fill_(float("nan"))

    with pytest.raises(ModelError, match="the training loss became NaN in epoch 2, step 11"):
        trainer.fit(tmp_path / "loss", every_steps=1, hooks=Hooks(on_steps=poison))
    trainer = make_trainer("vgg_cnn", {}, None)
    own = trainer.optimizer.step

    def step() -> None:
        own()
        if trainer.optimizer.state and next(iter(trainer.optimizer.state.values()))["step"] == 5:
            next(trainer.model.parameters()).data.fill_(float("inf"))

    trainer.optimizer.step = step  # type: ignore[assignment]
    with pytest.raises(ModelError, match=r"weights are no longer numbers at step 5, first `model\.0\.weight`"):
        trainer.fit(tmp_path / "weights", every_steps=1)
    saved = load_checkpoint(tmp_path / "weights", "latest")
    assert all(value.isfinite().all() for value in saved.tensors.values())
