"""Every command as a user types it: what stands on stdout, what on stderr, and the exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from danlu.base.runs import create_run
from danlu.cli.main import COMMANDS
from pictures import write_pictures, write_reviews

Told = tuple[int, str, str]
Cli = Callable[..., Told]
QUICK = ["training.epochs=3", "training.threads=1"]


def test_two_commands_lead_from_a_folder_to_answers(cli: Cli, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "照片")
    code, out, err = cli("train", data, *QUICK)
    assert code == 0
    assert out.strip() == str(Path("runs/latest").resolve().relative_to(Path.cwd()))
    assert "epoch 3/3" in err
    assert "test part: accuracy" in err
    code, out, err = cli("predict", "runs/latest", data / "红" / "000.jpg", data / "blue")
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 13
    assert [len(line.split("\t")) for line in lines] == [3] * 13
    assert err == ""


def test_predict_tells_of_texts_it_does_not_read_to_the_end(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", write_reviews(tmp_path / "r.csv"), "data.max_length=5", *QUICK)[0] == 0
    code, _, err = cli("predict", "runs/latest/bundle", "很快", "很快，好吃，而且便宜", "--variant", "fp32")
    assert (code, err) == (0, "warning: 1 of 2 texts are longer than the 5 tokens the model reads of each\n")


def test_predict_answers_in_json_lines_with_all_probabilities(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", write_reviews(tmp_path / "r.csv"), "training.threads=1")[0] == 0
    code, out, _ = cli("predict", "runs/latest", "很快，好吃，味道足", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["input"] == "很快，好吃，味道足"
    assert answer["class"] == "1"
    assert answer["confidence"] == max(answer["probabilities"].values())
    assert set(answer["probabilities"]) == {"0", "1"}
    code, out, _ = cli("predict", "runs/latest", "-", stdin="\ufeff难吃\n\n很好吃\n")
    assert [line.split("\t")[0] for line in out.splitlines()] == ["0", "error", "1"]  # a line for each line
    assert code == 3 and out.splitlines()[0].endswith("\t难吃")
    (tmp_path / "t.txt").write_text("太慢\n满意\n", encoding="utf-8")
    code, out, _ = cli("predict", "runs/latest", tmp_path / "t.txt", tmp_path / "r.csv", "--json")
    assert code == 0
    assert len(out.splitlines()) == 62


def test_unreadable_input_is_told_in_its_line_and_by_exit_code_3(cli: Cli, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "p")
    assert cli("train", data, *QUICK)[0] == 0
    (tmp_path / "bad.jpg").write_bytes(b"")
    code, out, err = cli("predict", "runs/latest", tmp_path / "bad.jpg", data / "blue" / "000.jpg")
    assert code == 3
    assert out.splitlines()[0].startswith("error\t-\t")
    assert "is empty (0 bytes)" in out
    assert out.splitlines()[1].split("\t")[0] in ("blue", "green", "红")
    assert "1 of 2 inputs could not be read" in err


def test_evaluate_prints_a_table_or_json(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", write_pictures(tmp_path / "p"), *QUICK)[0] == 0
    code, out, _ = cli("evaluate", "runs/latest")
    assert code == 0
    assert "precision" in out
    assert "红" in out
    code, out, _ = cli("evaluate", "runs/latest", "--json")
    values = json.loads(out)
    assert {"accuracy", "accuracy_interval", "log_loss", "per_class", "confusion", "averages"} <= values.keys()


def test_runs_lists_finished_and_failed_ones(cli: Cli, tmp_path: Path) -> None:
    assert cli("runs")[2].startswith("no runs below")
    data = write_pictures(tmp_path / "p")
    cli("train", data, *QUICK, "--name", "good")
    bad = ["training.learning_rate=1e30", "training.optimizer=sgd", "model.name=mlp"]
    code, _, err = cli("train", data, *QUICK, *bad, "--name", "bad")
    assert code == 4
    assert "NotANumber" in err
    code, out, _ = cli("runs")
    assert code == 0
    assert "finished" in out
    assert "failed" in out
    rows = [json.loads(line) for line in cli("runs", "--json")[1].splitlines()]
    assert [row["name"] for row in rows] == ["good", "bad"]


def test_runs_with_chinese_names_stand_below_their_heads(cli: Cli) -> None:
    for name in ("第一次", "b"):
        create_run(name, "base").update(state="failed", started="2026-01-01")
    head, *rows = cli("runs")[1].splitlines()
    at = head.index("state")
    assert {row.split("failed")[0] for row in rows} == {"第一次" + " " * (at - 6), "b" + " " * (at - 1)}


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["train", "x", "training.learning_rate=1"], 2, "`x` is neither a file, a folder nor a known data set"),
        (["train", "digit"], 2, "nearest: 'digits'"),
        (["train", "digits", "training.learing_rate=1"], 2, "unknown key; nearest: 'learning_rate'"),
        (["train", "digits", "optimizer.learning_rate=1"], 2, "nearest: 'training.learning_rate'"),
        (["train", "digits", "training.epochs=0"], 2, "expected a whole number of at least 1 or 'auto', got '0'"),
        (["train", "digits", "epochs=3"], 2, "expected section.key=value"),
        (["train", "digits", "model.name=resnt"], 2, "no model called 'resnt'"),
        (["train", "training.epochs=3"], 2, "DATA comes first"),
        (["train"], 2, "no DATA given"),
        (["train", "digits", "--resume", "a"], 2, "give nothing else with it"),
        (["train", "--resume", "nothing"], 2, "no run `nothing`"),
        (["train", "digits", "--config", "none.yaml"], 2, "no file `none.yaml`"),
        (["train", "digits", "--nmae", "a"], 2, "--name"),
        (["train", "digits", "--name", "../a"], 2, "cannot name a run"),
        (["predict", "nothing", "a.jpg"], 2, "no run `nothing`"),
        (["evaluate", "nothing"], 2, "no run `nothing`"),
        (["list", "modles"], 2, "nearest: 'models'"),
        (["data", "get", "mnst"], 2, "nearest: 'mnist'"),
        (["trian", "digits"], 2, "nearest: 'train'"),
    ],
)  # fmt: skip
def test_mistake_names_the_fault_and_a_way_out(cli: Cli, words: list[str], code: int, told: str) -> None:
    found, out, err = cli(*words)
    assert (found, out) == (code, "")
    assert told in err


def test_inspect_lists_findings_and_its_exit_code_tells_errors(cli: Cli, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "照片")
    code, out, err = cli("inspect", data)
    assert code == 0
    assert re.fullmatch("runs/inspections/照片-[0-9a-f]{6}/inspection.html", out.splitlines()[-1])
    assert "inspected in " in err
    (data / "红" / "000.jpg").write_bytes(b"")
    code, out, _ = cli("inspect", data)
    assert code == 3
    assert out.startswith("error    unreadable: 1 of 36 examples cannot be read: `红/000.jpg` (is empty (0 bytes))\n")
    code, out, _ = cli("inspect", data, "data.unreadable=skip", "--json", "--out", tmp_path / "out")
    assert code == 0
    assert json.loads(out)["findings"][0]["severity"] == "warning"
    assert (tmp_path / "out" / "inspection.json").exists()


def test_gate_stops_a_training_before_it_starts_and_names_the_way_out(cli: Cli, tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_pictures(tmp_path / "p" / part)
    code, out, err = cli("train", tmp_path / "p", *QUICK)
    assert (code, out) == (3, "")
    assert "36 contents stand in more than one part: " in err
    assert "36 of 36 test examples (100.00%)" in err
    assert "`data.leaks=drop`" in err
    assert f"`danlu inspect {tmp_path / 'p'}` shows every example" in err
    assert not list(Path("runs").glob("*/run.json"))


def test_report_and_compare_write_pages(cli: Cli, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "p")
    for name in ("一", "二"):
        assert cli("train", data, "--name", name, *QUICK)[0] == 0
    code, out, _ = cli("report", "二", "--png")
    assert (code, out) == (0, "runs/二/report.html\n")
    assert Path("runs/二/charts/confusion.png").exists()
    code, out, err = cli("compare", "一", "二")
    assert code == 0
    assert "comparison: runs/comparisons/一--二.html" in err
    assert out.splitlines()[-1].startswith("no difference shown between 一 and 二")
    code, out, _ = cli("compare", "一", "二", "--json", "--out", tmp_path / "c.html")
    assert json.loads(out)["pairs"][0]["better"] is None
    assert (tmp_path / "c.html").exists()


def test_empty_standard_input_is_told(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", write_reviews(tmp_path / "r.csv"), "training.epochs=1", "training.threads=1")[0] == 0
    code, out, err = cli("predict", "runs/latest", "-", stdin="")
    assert (code, out) == (0, "")
    assert "standard input held no line to answer" in err


def test_wished_error_rate_makes_unknown_an_answer(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", write_reviews(tmp_path / "r.csv"), *QUICK)[0] == 0
    assert cli("predict", "runs/latest", "很好吃")[1].split("\t")[0] in ("0", "1")
    code, out, err = cli("evaluate", "runs/latest", "--max-error", "0.01")
    assert code == 0
    assert "no threshold promises at most 1.00% wrong answers" in err
    assert "answered with `unknown`: 12 of 12" in out
    assert cli("predict", "runs/latest", "很好吃")[1].startswith("unknown\t")
    assert json.loads(cli("predict", "runs/latest", "很好吃", "--json")[1])["unknown"] is True
    assert cli("evaluate", "runs/latest", "--max-error", "off")[0] == 0
    assert not cli("predict", "runs/latest", "很好吃")[1].startswith("unknown\t")


@pytest.mark.parametrize("share", ["5", "0", "-1", "nan", "abc", ""])
def test_error_rate_that_is_no_share_names_one_that_is(cli: Cli, tmp_path: Path, share: str) -> None:
    assert cli("train", write_reviews(tmp_path / "r.csv"), "training.epochs=1", "training.threads=1")[0] == 0
    code, _, err = cli("evaluate", "runs/latest", "--max-error", share)
    assert code == 2
    assert "hint: 0.05 for 5 % of wrong answers" in err or "hint: such as 0.02 or 2%" in err


def test_evaluate_with_explanations_puts_them_into_the_report(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", write_reviews(tmp_path / "r.csv"), *QUICK)[0] == 0
    assert cli("evaluate", "runs/latest", "--explain")[0] == 0
    assert "<mark title=" in Path("runs/latest/report.html").read_text(encoding="utf-8")
    code, _, err = cli("evaluate", "runs/latest", "--explain", "--data", tmp_path / "r.csv")
    assert code == 2
    assert "`--explain` is about the run's own report" in err


def test_runs_are_a_markdown_table_on_request(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", write_reviews(tmp_path / "r.csv"), "--name", "a", *QUICK)[0] == 0
    failing = ("training.learning_rate=1e12", "training.clip_norm=", "training.optimizer=sgd", *QUICK)
    assert cli("train", tmp_path / "r.csv", "--name", "b", *failing)[0] == 4
    code, out, _ = cli("runs", "--markdown")
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "| run | state | model | epochs | validation | test | 95 % interval | seconds | ended because |"
    assert lines[2].startswith("| a | finished | ngrams | 3 | ")
    assert lines[3].startswith("| b | failed | ngrams | ")
    assert cli("runs", "--markdown", "--json")[0] == 2
    assert "no longer numbers" in lines[3] or "not a number" in lines[3] or "nan" in lines[3].lower()


def test_empty_folder_and_single_class_are_data_errors(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = cli("train", tmp_path / "empty")
    assert code == 3
    assert "holds no images" in err
    one = write_pictures(tmp_path / "one")
    for name in ("blue", "红"):
        for path in (one / name).iterdir():
            path.unlink()
    code, _, err = cli("train", one)
    assert code == 3
    assert "one class only: `green`" in err


def test_config_init_show_and_schema_agree(cli: Cli, tmp_path: Path) -> None:
    assert cli("config", "init")[:2] == (0, "danlu.yaml\n")
    assert cli("config", "init")[0] == 2
    code, out, _ = cli("config", "show", "--config", "danlu.yaml", "training.epochs=7", "--json")
    assert code == 0
    rows = {row["key"]: row for row in map(json.loads, out.splitlines())}
    assert rows["training.epochs"] == {"key": "training.epochs", "value": 7, "origin": "command line"}
    assert rows["training.optimizer"]["origin"] == "file danlu.yaml"
    schema = json.loads(cli("config", "schema")[1])
    assert {key.partition(".")[0] for key in rows} == set(schema["properties"])


def test_settings_of_a_run_are_shown_with_their_origins(cli: Cli, tmp_path: Path) -> None:
    cli("train", write_pictures(tmp_path / "p"), *QUICK, "--name", "a")
    out = cli("config", "show", "--run", "a")[1]
    assert "epochs: 3  # command line" in out
    assert "name: vgg_cnn  # auto:" in out


def test_everything_that_can_be_named_is_listed(cli: Cli) -> None:
    out = cli("list")[1]
    for word in ("models:", "sources:", "losses:", "optimizers:", "schedules:", "bilstm", "one_cycle", "muon"):
        assert word in out
    assert "model.widths=[256, 128]" in cli("list", "models", "--options")[1]
    assert all(json.loads(line)["description"] for line in cli("list", "--json")[1].splitlines())
    assert "fashion-mnist" in cli("data", "list")[1]


def test_check_tells_what_the_machine_can_do(cli: Cli) -> None:
    code, out, _ = cli("check", "--quick", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["cores"] >= 1
    assert any("cpu" in device for device in facts["devices"])
    assert "GFLOP/s" in cli("check", "--quick")[1]


def test_quiet_says_nothing_but_data(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli("--quiet", "train", write_pictures(tmp_path / "p"), *QUICK)
    assert (code, err) == (0, "")
    assert out.startswith("runs/") or "/runs/" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(cli: Cli, name: str) -> None:
    code, out, _ = cli(name, "--help")
    assert code == 0
    assert "Usage: danlu" in out


def test_bug_of_ours_is_exit_code_1_with_a_report_file(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr("danlu.base.runs.list_runs", broken)
    code, _, err = cli("runs")
    assert code == 1
    assert "internal error: RuntimeError: surprise" in err
    report = Path(err.split("`")[1])
    assert "surprise" in report.read_text(encoding="utf-8")
    report.unlink()


def test_output_is_utf8_whatever_the_locale(tmp_path: Path) -> None:
    environment = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PATH": "/usr/bin", "DANLU_RUNS": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    # Without `site`: before 3.13 it dies of the path of an editable install in a Chinese folder.
    command = [sys.executable, "-S", "-m", "danlu"]
    done = subprocess.run([*command, "list", "sources"], capture_output=True, env=environment, check=True)
    assert "table" in done.stdout.decode("utf-8")
    done = subprocess.run([*command, "--help"], capture_output=True, env=environment, check=True)
    assert "丹炉" in done.stdout.decode("utf-8")


def test_demo_trains_evaluates_predicts_and_serves(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from danlu.training.choose import RECIPES, Recipe

    monkeypatch.setitem(RECIPES, "vgg_cnn", Recipe(1, (2, 2), 64, 2e-3))
    monkeypatch.setattr("danlu.training.choose.FEWEST_STEPS", 1)
    code, out, err = cli("demo")
    assert code == 0
    accuracy, run = (line.split()[-1] for line in out.splitlines())
    assert float(accuracy) > 0.5
    assert (Path(run) / "evaluation.json").exists()
    assert err.count("  digit ") == 5
    assert re.search(r"http://127\.0\.0\.1:\d+ answers after [\d.]+ s: truth \d, answer \d", err)


def test_train_ends_with_a_bundle_unless_told_not_to(cli: Cli, tmp_path: Path) -> None:
    data = write_reviews(tmp_path / "r.csv")
    assert cli("train", data, *QUICK, "--name", "with")[0] == 0
    assert cli("train", data, *QUICK, "--name", "without", "--no-bundle")[0] == 0
    assert [(Path("runs") / name / "bundle").exists() for name in ("with", "without")] == [True, False]
    code, out, _ = cli("predict", "runs/with/bundle", "很快，好吃", "--json")
    assert code == 0 and json.loads(out)["class"] in ("0", "1")
    assert cli("export", "runs/with", "--max-drop", "much")[0] == 2
