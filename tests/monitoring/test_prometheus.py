"""Alerts and a dashboard that name counters the service has, in a form that Prometheus and Grafana read."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from bundles import made
from click.testing import CliRunner

from danlu.base.bundle import open_bundle
from danlu.cli.monitor import command
from danlu.monitoring.prometheus import _plain
from danlu.serving.metrics import Metrics


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("rules"), "images", **{"model.name": "mlp", "data.image_size": 16})


@pytest.fixture(scope="module")
def files(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("out") / "made"
    result = CliRunner().invoke(command, ["rules", str(bundle), "--out", str(folder)])
    assert result.exit_code == 0
    rules, dashboard = map(Path, result.stdout.splitlines())
    return rules, dashboard


def asked(files: tuple[Path, Path]) -> list[str]:
    rules: Any = yaml.safe_load(files[0].read_text(encoding="utf-8"))
    panels = json.loads(files[1].read_text(encoding="utf-8"))["panels"]
    return [
        *(rule["expr"] for group in rules["groups"] for rule in group["rules"]),
        *(target["expr"] for panel in panels for target in panel["targets"]),
    ]


def test_every_counter_that_is_asked_for_is_one_of_the_service(files: tuple[Path, Path]) -> None:
    metrics = Metrics()
    metrics.request("/predict", 200, 0.01)
    metrics.answered("m", "a", 0.9, is_unknown=True)
    metrics.shadow.labels("asked").inc()
    metrics.reloads.labels("done").inc()
    metrics.lost.inc()
    there = set(re.findall(r"^(danlu_\w+)", metrics.page().decode(), re.MULTILINE))
    wanted = {name for text in asked(files) for name in re.findall(r"danlu_\w+", text)}
    assert wanted and wanted <= there


def test_every_class_has_an_alert_of_this_model(files: tuple[Path, Path], bundle: Path) -> None:
    rules = yaml.safe_load(files[0].read_text(encoding="utf-8"))["groups"][0]["rules"]
    shares = [rule for rule in rules if rule["alert"] == "DanluClassShare"]
    assert {rule["labels"]["label"] for rule in shares} == {"红", "green", "blue"}
    assert all(f'model="{open_bundle(bundle).model}"' in rule["expr"] for rule in shares)


def test_class_that_looks_like_a_template_is_a_name() -> None:
    assert _plain("{{ .Bad") == '{{ "{{" }} .Bad'


def test_prometheus_reads_the_rules(files: tuple[Path, Path]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here")
    told = subprocess.run([promtool, "check", "rules", files[0]], capture_output=True, text=True)
    assert told.returncode == 0 and "10 rules found" in told.stdout, told.stdout + told.stderr
