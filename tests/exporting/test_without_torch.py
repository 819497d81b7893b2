"""A bundle in an environment with the base install alone: no PyTorch, the same answers.

`pytest -m slow tests/exporting/test_without_torch.py -s` builds the environment and prints its size.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import danlu
from pictures import write_pictures, write_reviews

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).parents[2]
QUICK = {"training.epochs": 2, "training.threads": 1}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("base") / "venv"
    venv.create(home, with_pip=True)
    found = home / "bin" / "python"
    install = [found, "-m", "pip", "install", "--quiet", "-c", PROJECT / "constraints.txt", PROJECT]
    subprocess.run(install, check=True, cwd=home)
    return found


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def packages(python: Path | str) -> set[str]:
    told = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, check=True, text=True)
    return {row["name"].lower() for row in json.loads(told.stdout)}


def test_base_install_is_a_fraction_of_the_full_one_and_has_no_torch(python: Path) -> None:
    base = megabytes(python.parents[1])
    full = megabytes(Path(sys.prefix))
    print(f"\nbase install {base:,.0f} MB, {len(packages(python))} packages; full install {full:,.0f} MB")
    heavy = {"torch", "onnx", "onnxscript", "scikit-learn", "scipy", "matplotlib", "pandas", "safetensors"}
    assert not heavy & packages(python)
    assert base < full / 4


@pytest.mark.parametrize("format", ["onnx", "int8"])
@pytest.mark.parametrize("kind", ["images", "texts"])
def test_bundle_answers_there_as_here(python: Path, tmp_path: Path, kind: str, format: str) -> None:
    if kind == "images":
        data = write_pictures(tmp_path / "照片", count=30)
        inputs = [str(path) for path in sorted(data.rglob("*.jpg"))[::9]]
    else:
        data = write_reviews(tmp_path / "r.csv", 120)
        inputs = ["很快，好吃", "太慢，难吃", "鑫"]
    bundle = danlu.export(danlu.train(data, QUICK), format, max_drop=0.3 if format == "int8" else None)
    command = [python, "-m", "danlu", "predict", bundle, *inputs, "--json"]
    told = subprocess.run(command, capture_output=True, check=True, text=True, encoding="utf-8")
    answers = [json.loads(line) for line in told.stdout.splitlines()]
    for answer, here in zip(answers, danlu.load(bundle).predict(inputs), strict=True):
        assert answer["class"] == here.label
        assert answer["probabilities"] == pytest.approx(here.probabilities, abs=1e-6)
    script = "import danlu, sys; danlu.load(sys.argv[1]); print('torch' in sys.modules)"
    loaded = subprocess.run([python, "-c", script, bundle], capture_output=True, check=True, text=True)
    assert loaded.stdout.strip() == "False"


def test_run_says_there_that_its_bundle_would_do(python: Path, tmp_path: Path) -> None:
    run = danlu.train(write_reviews(tmp_path / "r.csv"), QUICK)
    danlu.export(run)
    command = [python, "-m", "danlu", "predict", run.folder, "很快"]
    told = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert told.returncode == 2
    assert f"its bundle does not: `{run.bundle_folder}`" in told.stderr
