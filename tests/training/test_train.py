"""The verb `train` on real files, from reading to the run folder."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image
from test_resume import state_hash

import danlu
from danlu.base.config import read_config
from danlu.base.errors import ConfigError, DataError, MachineError
from danlu.base.runs import Run, find_run
from danlu.data.split import read_manifest
from danlu.training import train as module
from danlu.training.checkpoints import load_checkpoint
from pictures import COLORS, write_pictures, write_reviews

QUICK = {"training.epochs": 4, "training.threads": 1, "training.channels_last": True}


def test_folder_of_pictures_becomes_a_run_with_all_its_files(tmp_path: Path) -> None:
    run = danlu.train(write_pictures(tmp_path / "照片"), QUICK)
    assert sorted(p.name for p in run.folder.iterdir()) == [
        ".lock",
        "answers-validation.csv",
        "calibration.json",
        "checkpoints",
        "config.yaml",
        "first_step.json",
        "gate.json",
        "history.jsonl",
        "manifest.csv",
        "model.json",
        "record.md",
        "run.json",
        "steps.jsonl",
        "watched.jsonl",
    ]
    assert run.model()["classes"] == ["blue", "green", "红"]
    assert run.status()["state"] == "finished"
    assert [row["epoch"] for row in run.history()] == [0, 1, 2, 3]
    assert find_run("runs/latest").name == run.name
    assert "验" not in run.record_file.read_text(encoding="utf-8")
    assert "## Observations" in run.record_file.read_text(encoding="utf-8")


def test_every_auto_value_is_chosen_and_its_reason_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = danlu.train(write_pictures(tmp_path / "p"), QUICK)
    text = run.config_file.read_text(encoding="utf-8")
    left = {line.split(":")[0].strip() for line in text.splitlines() if line.endswith(": auto")}
    assert left <= {"source", "delimiter", "encoding", "tokens", "max_length", "device", "every_steps"}
    assert "name: vgg_cnn  # auto: 24 train images of 16 pixels" in text
    assert "epochs: 4  # settings" in text
    told = capsys.readouterr().err
    assert "model.name=vgg_cnn   24 train images" in told
    assert "data.color=rgb   images have colour" in told


def test_resolved_configuration_of_a_run_reads_back_to_the_same_settings(tmp_path: Path) -> None:
    run = danlu.train(write_pictures(tmp_path / "p"), QUICK)
    config = read_config(run.config_file)
    assert config.settings.model.name == "vgg_cnn"
    assert read_config(settings=config.settings.model_dump()).settings == config.settings
    original = [line.split("  #")[0] for line in run.config_file.read_text(encoding="utf-8").splitlines()]
    assert [line.split("  #")[0] for line in config.to_yaml().splitlines()] == original


def test_equal_seeds_give_equal_weights_and_another_seed_others(tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "p")
    runs = [danlu.train(data, {**QUICK, "training.seed": seed}, name=f"r{i}") for i, seed in enumerate((0, 0, 1))]
    one, two, three = (load_checkpoint(run.checkpoints_folder, "best").tensors for run in runs)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one[key], three[key]) for key in one)


def test_table_of_reviews_trains_the_text_model(tmp_path: Path) -> None:
    run = danlu.train(write_reviews(tmp_path / "评论.csv"), {"training.threads": 1})
    assert run.model()["name"] == "ngrams"
    assert run.model()["preprocessing"]["tokens"] == "characters"
    assert run.status()["best"]["validation_accuracy"] == 1


def test_interrupted_run_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_pictures(tmp_path / "p")
    settings = {**QUICK, "augmentation.crop": 2, "augmentation.flip": True, "checkpoint.every_steps": 1}
    whole = danlu.train(data, settings, name="whole")
    add = Run.add_history

    def cut(self: Run, row: dict[str, object]) -> None:
        add(self, row)
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "add_history", cut)
        with pytest.raises(KeyboardInterrupt):
            danlu.train(data, settings, name="cut")
    broken = find_run("cut")
    assert broken.status()["state"] == "interrupted"
    assert f"danlu train --resume {broken}" in broken.record_file.read_text(encoding="utf-8")
    resumed = danlu.resume("cut")
    assert resumed.status()["state"] == "finished"
    assert [row["epoch"] for row in resumed.history()] == [0, 1, 2, 3]
    assert resumed.steps() == whole.steps()
    assert state_hash(resumed.checkpoints_folder) == state_hash(whole.checkpoints_folder)


def test_settings_changed_by_hand_are_told_on_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "add_history", lambda self, row: signal.raise_signal(signal.SIGINT))
        danlu.train(write_pictures(tmp_path / "p"), QUICK, name="cut")
    run = find_run("cut")
    text = run.config_file.read_text(encoding="utf-8")
    run.config_file.write_text(text.replace("learning_rate: 0.002", "learning_rate: 0.005"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"training\.learning_rate +was 0\.002, is 0\.005"):
        danlu.resume("cut")
    assert danlu.resume("cut", inexact=True).status()["state"] == "finished"


def test_tensorboard_events_have_every_step_once_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**QUICK, "training.tensorboard": True, "checkpoint.every_steps": 2, "training.batch_size": 8}
    data = write_pictures(tmp_path / "p")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def cut(self: Run, row: dict[str, object]) -> None:
            if row["epoch"] == 1:
                raise KeyboardInterrupt

        patch.setattr(Run, "add_history", cut)
        danlu.train(data, settings, name="cut")
    run = danlu.resume("cut")
    told = read_events(run.tensorboard_folder)
    assert [step for step, _ in told["loss/step"]] == [row["step"] for row in run.steps()]
    assert [value for _, value in told["loss/step"]] == pytest.approx([row["loss"] for row in run.steps()])
    assert [step for step, _ in told["accuracy/validation"]] == [row["step"] for row in run.history()]


def read_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Scalars as TensorBoard shows them: it drops what a purging restart writes again."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_resume_refuses_data_that_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_pictures(tmp_path / "p")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_fit", stop)
        with pytest.raises(KeyboardInterrupt):
            danlu.train(data, QUICK, name="cut")
    (data / "blue" / "000.jpg").unlink()
    with pytest.raises(ConfigError, match="is not what it was when"):
        module.resume("cut")


def test_finished_run_is_not_resumed(tmp_path: Path) -> None:
    run = danlu.train(write_pictures(tmp_path / "p"), QUICK)
    with pytest.raises(ConfigError, match="is finished"):
        module.resume(run.folder)


def test_name_of_a_finished_run_is_taken(tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "p")
    danlu.train(data, QUICK, name="a")
    with pytest.raises(ConfigError, match=r"the run `.*a` exists already \(state: finished\)[\s\S]*another name"):
        danlu.train(data, QUICK, name="a")


def test_examples_keep_their_part_when_data_grows(tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "p")
    first = {row.key: row.part for row in read_manifest(danlu.train(data, QUICK).manifest_file)}
    for name in COLORS:
        Image.new("RGB", (16, 16), (1, 2, len(name))).save(data / name / "zzz.png")
        (data / name / "new.jpg").write_bytes((data / name / "001.jpg").read_bytes() + b"\0")
    second = {row.key: row.part for row in read_manifest(danlu.train(data, QUICK).manifest_file)}
    assert len(second) == len(first) + 6
    assert {key: second[key] for key in first} == first


def test_truncated_jpeg_stops_the_run_before_it_starts_and_can_be_skipped(tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "p")
    broken = data / "green" / "003.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=r"1 of 36 examples .*`green/003\.jpg` \(ends after 200 bytes\)") as caught:
        danlu.train(data, QUICK)
    assert "data.unreadable=skip" in str(caught.value)
    assert not Path("runs").exists()
    run = danlu.train(data, {**QUICK, "data.unreadable": "skip"})
    assert run.unreadable_file.read_text(encoding="utf-8") == "key,reason\ngreen/003.jpg,ends after 200 bytes\n"
    assert any("left out: 1 of 36" in note for note in run.status()["notes"])
    assert len(read_manifest(run.manifest_file)) == 35


def test_failed_run_keeps_a_record_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(danlu.ModelError, match=r"became (NaN|infinite)"):
        danlu.train(
            write_pictures(tmp_path / "p"),
            {**QUICK, "training.learning_rate": 1e30, "training.optimizer": "sgd", "model.name": "mlp"},
            name="bad",
        )
    run = find_run("bad")
    assert run.status()["state"] == "failed"
    assert "training loss became" in run.record_file.read_text(encoding="utf-8")


def test_all_unknown_names_are_told_before_data_is_read() -> None:
    with pytest.raises(ConfigError, match="2 problems") as caught:
        danlu.train("nowhere/", {"model.name": "vgg_cn", "training.optimizer": "adm"})
    assert "nearest: 'vgg_cnn'" in str(caught.value)
    assert "nearest: 'adam'" in str(caught.value)


def test_device_that_is_not_there_is_an_error_not_a_fall_back(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(MachineError, match=r"training\.device=cuda"):
        danlu.train(write_pictures(tmp_path / "p"), {**QUICK, "training.device": "cuda"})


def test_text_model_for_pictures_is_refused_with_fitting_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`bilstm` does not read images[\s\S]*mlp"):
        danlu.train(write_pictures(tmp_path / "p"), {"model.name": "bilstm"})


def test_model_options_of_the_user_win_over_danlus(tmp_path: Path) -> None:
    run = danlu.train(write_pictures(tmp_path / "p"), {**QUICK, "model.dropout": 0.0})
    assert run.model()["options"]["dropout"] == 0
    assert run.model()["options"]["feature_dropout"] == 0.1


def test_history_is_json_lines(tmp_path: Path) -> None:
    run = danlu.train(write_pictures(tmp_path / "p"), QUICK)
    rows = [json.loads(line) for line in run.history_file.read_text().splitlines()]
    assert {"epoch", "train_loss", "validation_accuracy", "learning_rate", "seconds"} <= rows[0].keys()
    assert sum(row["is_best"] for row in rows) >= 1


def test_data_larger_than_memory_trains_from_disk_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pictures(tmp_path / "p")
    (data / "blue" / "zz.jpg").write_bytes(b"broken")
    settings = {**QUICK, "data.unreadable": "skip", "augmentation.crop": 1}
    one = danlu.train(data, settings, name="memory")
    monkeypatch.setattr("danlu.data.decode.fits_in_memory", lambda size_bytes: False)
    monkeypatch.setenv("DANLU_CACHE", str(tmp_path / "other"))
    two = danlu.train(data, settings, name="disk")
    assert "do not fit in" in capsys.readouterr().err
    weights = [load_checkpoint(run.checkpoints_folder, "latest").tensors for run in (one, two)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert danlu.evaluate(two).accuracy == danlu.evaluate(one).accuracy
    with pytest.raises(MachineError, match=r"do not fit in the .* GB of free memory[\s\S]*data\.cache=true"):
        danlu.train(data, {**settings, "data.cache": False})


def test_few_examples_are_trained_long_enough_to_learn(tmp_path: Path) -> None:
    run = danlu.train(write_reviews(tmp_path / "few.csv", count=40), {"training.threads": 1})
    assert run.status()["epochs_done"] == 100
    assert danlu.evaluate(run).accuracy == 1


def test_images_start_small_where_the_model_reads_any_size(tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "p")
    run = danlu.train(data, {**QUICK, "model.name": "fast_cnn", "training.epochs": 3, "training.batch_size": 8})
    settings = read_config(run.config_file).settings.augmentation
    assert (settings.early_size, settings.early_epochs) == (11, 1)
    with pytest.raises(ConfigError, match=r"early_size=8`: vgg_cnn built for 16 pixels cannot read images of 8"):
        danlu.train(data, {**QUICK, "augmentation.early_size": 8, "augmentation.early_epochs": 1})
