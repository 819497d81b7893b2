"""Alerts and a dashboard that name counters the service has, in a form that Prometheus and Grafana read."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from bundles import made
from click.testing import CliRunner

from danlu.base.bundle import open_bundle
from danlu.cli.monitor import command
from danlu.monitoring.prometheus import _plain, alerts
from danlu.prediction.reference import CONFIDENCE, LEVELS, Reference
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


INVENTED: Any = SimpleNamespace(model="pets@1", name="pets", version="1")


def rules_of(confidence: float = 0.8, deviation: float = 0.1) -> dict[str, str]:
    """What is asked for by each alert of a model whose confidence is normal; 700 of 1,000 answers were `cat`."""
    quantiles = confidence + deviation * np.array(
        [NormalDist().inv_cdf(level) for level in np.clip(LEVELS, 0.001, 0.999)]
    )
    reference = Reference(1000, {CONFIDENCE: quantiles}, {"cat": 700, "dog": 300}, None)
    rules = alerts(INVENTED, reference)["groups"][0]["rules"]
    return {rule["labels"].get("label", rule["alert"]): rule["expr"] for rule in rules}


def fires(rule: str, counters: dict[str, float]) -> bool:
    """As Prometheus would compute it where counters, by their beginnings, grew by so much in the time of the rule."""
    for beginning, value in counters.items():
        rule = re.sub(rf"sum\(increase\({re.escape(beginning)}[^}}]*\}}\[6h\]\)\)", f"{value:g}", rule)
    rule = rule.replace("vector(0)", "0")
    assert "danlu" not in rule
    return bool(eval(rule, {"__builtins__": {}, "abs": abs, "sqrt": math.sqrt}))


@pytest.mark.parametrize(
    ("mean", "answers", "is_told"),
    [(0.80, 5000, False), (0.81, 5000, False), (0.75, 5000, True), (0.85, 5000, True), (0.5, 150, False)],
    ids=["as it was", "by chance", "lower", "higher", "few answers"],
)
def test_mean_confidence_that_is_not_that_of_validation_is_told(mean: float, answers: int, is_told: bool) -> None:
    counters = {"danlu_confidence_sum{": mean * answers, "danlu_confidence_count{": answers}
    assert fires(rules_of()["DanluConfidence"], counters) == is_told


@pytest.mark.parametrize(
    ("cats", "answers", "is_told"),
    [
        (3500, 5000, False),
        (3600, 5000, False),
        (2500, 5000, True),
        (4500, 5000, True),
        (0, 5000, True),
        (0, 150, False),
    ],
    ids=["as it was", "by chance", "fewer", "more", "none", "few answers"],
)
def test_share_of_a_class_that_is_not_that_of_validation_is_told(cats: float, answers: float, is_told: bool) -> None:
    counters = {
        'danlu_answers_total{model="pets@1",label="cat"': cats,
        'danlu_answers_total{model="pets@1"': answers,
    }
    assert fires(rules_of()["cat"], counters) == is_told


def test_request_that_was_turned_away_is_no_failure() -> None:
    """There is an alert of its own for a busy service."""
    rules = rules_of()
    failing, busy = (re.findall(r'status[!=~]+"[^"]*"', rules[name]) for name in ("DanluFails", "DanluBusy"))
    assert failing == ['status=~"5.."', 'status!="503"'] and busy == ['status="503"']


def test_prometheus_reads_the_rules(files: tuple[Path, Path]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here")
    told = subprocess.run([promtool, "check", "rules", files[0]], capture_output=True, text=True)
    assert told.returncode == 0 and "10 rules found" in told.stdout, told.stdout + told.stderr
