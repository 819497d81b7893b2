"""The gate refuses an export whose preprocessing or answers are not those of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import danlu
from danlu.base.bundle import open_bundle
from danlu.base.errors import ModelError
from danlu.exporting import bundling, variants
from danlu.prediction.predictor import Predictor
from pictures import COLORS, write_reviews

QUICK = {"training.epochs": 3, "training.threads": 1, "data.image_size": 16}


def write_photos(root: Path) -> Path:
    """40 × 28 photos with edges, of which every third is stored on its side with an EXIF orientation."""
    rng = np.random.default_rng(0)
    for name, color in COLORS.items():
        folder = root / name
        folder.mkdir(parents=True)
        for index in range(14):
            pixels = np.full((28, 40, 3), color, np.uint8)
            pixels[rng.integers(0, 14) :, : rng.integers(8, 40)] = rng.integers(0, 255, 3)
            picture, exif = Image.fromarray(pixels), Image.Exif()
            if index % 3 == 0:
                exif[0x0112] = 6
                picture = picture.transpose(Image.Transpose.ROTATE_90)
            picture.save(folder / f"{index}.png", exif=exif)
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> danlu.Run:
    home = tmp_path_factory.mktemp("parity")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DANLU_RUNS", str(home / "runs"))
        patch.setenv("DANLU_CACHE", str(home / "cache"))
        found = danlu.train(write_photos(home / "照片"), {**QUICK, "model.name": "mlp"}, name="parity")
    return danlu.Run(found.folder.resolve())


OF_FILES = ("EXIF ignored", "other interpolation", "transparency ignored")


class Skewed(Predictor):
    """A bundle whose reader prepares images in its own way."""

    skew = ""

    def read(self, item: Any) -> Any:
        if isinstance(item, (bytes, Path, str)) and self.skew in OF_FILES:
            return self.read_otherwise(item)
        pixels = super().read(item)
        return pixels[::-1].copy() if self.skew == "BGR" else pixels

    def read_otherwise(self, item: Any) -> Any:
        import io

        image = Image.open(io.BytesIO(item) if isinstance(item, bytes) else item)
        if self.skew == "other interpolation":
            from PIL import ImageOps

            upright = ImageOps.exif_transpose(image).convert("RGB")
            fitted = ImageOps.fit(upright, (16, 16), Image.Resampling.NEAREST)
        elif self.skew == "transparency ignored":
            stored = image.convert("RGB") if image.mode == "RGBA" else None
            image.close()
            return super().read(item if stored is None else stored)
        else:
            image.info.pop("exif", None)
            stored = Image.fromarray(np.asarray(image.convert("RGB")))
            return super().read(stored)
        return np.ascontiguousarray(np.asarray(fitted).transpose(2, 0, 1))


@pytest.mark.parametrize("skew", ["other interpolation", "BGR", "EXIF ignored", "another mean", "transparency ignored"])
def test_skewed_preprocessing_is_refused_and_nothing_is_written(
    run: danlu.Run, skew: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(path.name for path in run.folder.iterdir())
    if skew == "another mean":
        from danlu.exporting import exported

        original = exported.Exported.__init__

        def skewed(self: Any, model: Any, recipe: Any) -> None:
            original(self, model, replace(recipe, mean=(0.3, 0.6, 0.1)))

        monkeypatch.setattr(exported.Exported, "__init__", skewed)
    else:
        real = bundling.load_bundle

        def load(*given: Any) -> Predictor:
            plain = real(*given)
            found = Skewed(plain.kind, plain.classes, plain.recipe, plain.engine, plain.calibration)
            found.skew = skew
            return found

        monkeypatch.setattr(bundling, "load_bundle", load)
    with pytest.raises(ModelError, match=r"does not answer as the trained model does.*held-out.*first `.*png`"):
        danlu.export(run)
    assert sorted(path.name for path in run.folder.iterdir()) == before


def test_skewed_reader_without_a_skew_passes(run: danlu.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = bundling.load_bundle

    def load(*given: Any) -> Predictor:
        plain = real(*given)
        return Skewed(plain.kind, plain.classes, plain.recipe, plain.engine, plain.calibration)

    monkeypatch.setattr(bundling, "load_bundle", load)
    danlu.export(run)


def test_failed_export_leaves_the_bundle_that_was_there(run: danlu.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = danlu.export(run)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*_: Any) -> str:
        raise ModelError("made up")

    monkeypatch.setattr(bundling, "card", fail)
    with pytest.raises(ModelError, match="made up"):
        danlu.export(run)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_int8_that_loses_too_much_is_refused(run: danlu.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = danlu.export(run)
    real = variants.change_of

    def worse(*given: Any) -> variants.Change:
        return replace(real(*given), change=-0.02, change_interval=(-0.05, 0.01))

    monkeypatch.setattr(variants, "change_of", worse)
    with pytest.raises(ModelError, match=r"int8.*-2.00 points \(95 % interval -5.00 to \+1.00\)[\s\S]*--max-drop"):
        danlu.export(run, "int8")
    assert set(open_bundle(folder).variants) == {"fp32"}


def test_int8_takes_its_ranges_from_validation_and_is_judged_on_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = danlu.train(write_reviews(tmp_path / "r.csv", 200), {"training.epochs": 1, "training.threads": 1})
    parts: list[str] = []
    real = bundling.held_out

    def spied(of: danlu.Run, wanted: Any, most: int) -> Any:
        parts.append("+".join(wanted))
        return real(of, wanted, most)

    monkeypatch.setattr(bundling, "held_out", spied)
    seen: list[set[str]] = []
    judged = variants.judged

    def spied_judged(validation: Any) -> Any:
        found = judged(validation)
        calibrating = validation.select(variants._halves(validation)[0])
        seen.append(set(found.keys) & set(calibrating.keys))
        return found

    monkeypatch.setattr(variants, "judged", spied_judged)
    danlu.export(run, "int8", max_drop=0.5)
    assert parts == ["test+validation", "validation", "train", "test"]  # train only for the statistics of the monitor
    assert seen and not any(seen)


def test_data_that_changed_after_training_proves_nothing(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "p")
    run = danlu.train(photos, {**QUICK, "model.name": "mlp", "data.cache": False})
    for path in photos.rglob("*.png"):
        Image.new("RGB", (40, 28), "white").save(path)
    with pytest.raises(danlu.DataError, match=r"test examples have changed since training, first: `.*png`"):
        danlu.export(run)


def test_run_that_is_not_finished_is_not_exported(tmp_path: Path) -> None:
    run = danlu.train(write_reviews(tmp_path / "r.csv"), {"training.epochs": 1, "training.threads": 1})
    run.calibration_file.unlink()
    with pytest.raises(danlu.ConfigError, match="is not finished"):
        danlu.export(run)


def test_folder_of_something_else_is_not_replaced(run: danlu.Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("x")
    with pytest.raises(danlu.ConfigError, match="exists and is no export"):
        danlu.export(run, out=tmp_path / "mine")
    assert (tmp_path / "mine" / "diary.txt").exists()
    assert danlu.export(run, out=tmp_path / "新 的") == tmp_path / "新 的"
    danlu.export(run, out=tmp_path / "新 的")


def test_unknown_format_names_the_nearest(run: danlu.Run) -> None:
    with pytest.raises(danlu.ConfigError, match=r"no format called 'onx'; nearest: 'onnx'"):
        danlu.export(run, "onx")
