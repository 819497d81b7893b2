"""Alerts for Prometheus and a dashboard for Grafana, from what a bundle says its answers look like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from danlu.base.bundle import Bundle, is_bundle, open_bundle
from danlu.base.files import make_folder, write_json, write_text
from danlu.base.runs import find_run
from danlu.prediction.reference import CONFIDENCE, LEVELS, Reference, read_reference

RULES, DASHBOARD = "danlu-alerts.yml", "danlu-dashboard.json"
ERRORS = 5  # standard errors from the reference: one in some millions by chance
LEAST = 200  # answers
MOST_CLASSES = 100
HOURS = 6


def write_rules(place: str | Path, folder: str | Path) -> list[Path]:
    """Write both files for the service of a bundle, or of a run's, into a folder; where they are.

    >>> write_rules("runs/latest", "monitoring")     # doctest: +SKIP
    """
    bundle = open_bundle(place if is_bundle(place) else find_run(place).bundle_folder)
    out = Path(folder)
    make_folder(out)
    rules = yaml.safe_dump(alerts(bundle, read_reference(bundle)), sort_keys=False, allow_unicode=True, width=1000)
    write_text(out / RULES, rules)
    write_json(out / DASHBOARD, dashboard(bundle))
    return [out / RULES, out / DASHBOARD]


def alerts(bundle: Bundle, reference: Reference) -> dict[str, Any]:
    """The content of a rule file."""
    failing, busy = _share('status=~"5..",status!="503"'), _share('status="503"')
    rules = [
        _alert("DanluSilent", "absent(danlu_requests_total)", "2m", "critical", "No danlu service can be scraped."),
        _alert("DanluFails", f"{failing} > 0.01", "5m", "critical", "More than 1 % of the requests fail."),
        _alert("DanluBusy", f"{busy} > 0.05", "5m", "warning", "More than 5 % are turned away."),
        _alert("DanluSlow", f"{_latency(0.99)} > 1", "10m", "warning", "1 % of the answers take longer than a second."),
        _alert(
            "DanluReloadRefused",
            'increase(danlu_reloads_total{outcome="refused"}[15m]) > 0',
            "0m",
            "warning",
            "A replaced bundle was refused; the old one goes on.",
        ),
        _alert(
            "DanluJournalLoses",
            "increase(danlu_journal_lost_total[15m]) > 0",
            "0m",
            "warning",
            "Answers are missing in the journal.",
        ),
        _alert(
            "DanluConfidence",
            _confidence(bundle, reference),
            "10m",
            "warning",
            f"The mean confidence of the last {HOURS} hours is not that of the validation examples: `danlu monitor`.",
        ),
    ]
    counts = sorted(reference.counts.items(), key=lambda item: -item[1])[:MOST_CLASSES]
    rules += [
        _alert(
            "DanluClassShare",
            _class_share(bundle, name, count, reference.examples),
            "10m",
            "warning",
            f"The share of {_plain(name)} in {HOURS} hours is not that of the validation examples: `danlu monitor`.",
            label=_plain(name),
        )
        for name, count in counts
    ]
    return {"groups": [{"name": "danlu", "rules": rules}]}


def dashboard(bundle: Bundle) -> dict[str, Any]:
    """A dashboard to import; it asks for the Prometheus it reads."""
    confidence, unknown = ("confidence_sum", "confidence_count"), ("unknown_total", "answers_total")
    charts = [
        ("Requests a second", "reqps", {"{{status}}": "sum by (status) (rate(danlu_requests_total[5m]))"}),
        ("Latency", "s", {f"{share:.0%}": _latency(share) for share in (0.5, 0.95, 0.99)}),
        ("Answers a second", "short", {"{{label}}": "sum by (label) (rate(danlu_answers_total[5m]))"}),
        ("Mean confidence", "percentunit", {"{{model}}": _of_models(*confidence)}),
        ("Unknown", "percentunit", {"{{model}}": _of_models(*unknown)}),
        (
            "Journal, reloads, shadow",
            "short",
            {
                "missing in the journal": "sum(increase(danlu_journal_lost_total[5m]))",
                "reload {{outcome}}": "sum by (outcome) (increase(danlu_reloads_total[5m]))",
                "shadow {{outcome}}": "sum by (outcome) (increase(danlu_shadow_total[5m]))",
            },
        ),
    ]
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "title": f"danlu: {bundle.name}",
        "uid": f"danlu-{bundle.version}",
        "schemaVersion": 39,
        "tags": ["danlu"],
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": [
            {
                "id": number + 1,
                "title": title,
                "type": "timeseries",
                "datasource": source,
                "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
                "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                "targets": [
                    {"refId": chr(65 + place), "datasource": source, "expr": asked, "legendFormat": legend}
                    for place, (legend, asked) in enumerate(targets.items())
                ],
            }
            for number, (title, unit, targets) in enumerate(charts)
        ],
    }


def _alert(name: str, asked: str, lasting: str, severity: str, told: str, **labels: str) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": asked,
        "for": lasting,
        "labels": {"severity": severity, **labels},
        "annotations": {"summary": told},
    }


def _plain(name: str) -> str:
    """A name in a text that Prometheus reads as a template."""
    return name.replace("{{", '{{ "{{" }}')


def _share(which: str) -> str:
    return f"sum(rate(danlu_requests_total{{{which}}}[5m])) / sum(rate(danlu_requests_total[5m]))"


def _latency(share: float) -> str:
    asked = 'rate(danlu_request_seconds_bucket{route=~"/predict.*|/v2/.*infer"}[5m])'
    return f"histogram_quantile({share:g}, sum by (le) ({asked}))"


def _of_models(part: str, whole: str) -> str:
    part, whole = (f"sum by (model) (rate(danlu_{name}[5m]))" for name in (part, whole))
    return f"{part} / {whole}"


def _confidence(bundle: Bundle, reference: Reference) -> str:
    """Away from the reference by more than chance: its deviation is that of the quantiles."""
    quantiles = reference.distributions[CONFIDENCE]
    mean, deviation = float(np.trapezoid(quantiles, LEVELS)), float(quantiles.std())
    of = f"{{model={json.dumps(bundle.model, ensure_ascii=False)}}}[{HOURS}h]"
    count = f"sum(increase(danlu_confidence_count{of}))"
    now = f"sum(increase(danlu_confidence_sum{of})) / {count}"
    error = f"{deviation:.6g} * sqrt(1 / {count} + 1 / {reference.examples})"
    return f"abs({now} - {mean:.6g}) > {ERRORS} * {error} and {count} > {LEAST}"


def _class_share(bundle: Bundle, name: str, count: int, examples: int) -> str:
    model, label = (json.dumps(text, ensure_ascii=False) for text in (bundle.model, name))
    now = f"(sum(increase(danlu_answers_total{{model={model},label={label}}}[{HOURS}h])) or vector(0))"
    all_ = f"sum(increase(danlu_answers_total{{model={model}}}[{HOURS}h]))"
    both = f"(({now} + {count}) / ({all_} + {examples}))"
    error = f"sqrt({both} * (1 - {both}) * (1 / {all_} + 1 / {examples}))"
    return f"abs({now} / {all_} - {count / examples:.6g}) > {ERRORS} * {error} and {all_} > {LEAST}"
