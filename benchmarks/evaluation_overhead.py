"""Seconds that scoring adds to one pass over the test images, and seconds and bytes of the report.

Targets: what `danlu.evaluate` computes and writes beside the pass adds at most 10 % to it; report.html of 10,000 test
images has at most 3 MB. The test part is decoded once. Then in turn, in one process: the pass alone; the pass and all
of danlu's scores with their intervals, answers, gallery and record; the pass and the usual scores by hand with
scikit-learn, with a bootstrap of the macro F1.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import report
from sklearn.metrics import classification_report, confusion_matrix, f1_score
from startup import danlu_command

import danlu
from danlu.base.machine import suit_process_to_training
from danlu.base.runs import Run
from danlu.data.own_part import own_part
from danlu.data.prepare import Part, encode_examples
from danlu.evaluation.evaluate import OwnPart, score_part
from danlu.prediction.predictor import Predictor, load
from danlu.sources.examples import index_labels

TARGET_SHARE = 0.1
TARGET_MB = 3
TARGET_FROM = 10_000  # test images
DATA, QUICK_DATA = "fashion-mnist", "digits"
MODELS = ("digit_cnn", "fast_cnn", "mlp")
RESAMPLES = 1000  # as many as danlu draws
QUICK_RESAMPLES = 20


@dataclass(frozen=True)
class Trained:
    """A run, loaded, with its test part decoded."""

    run: Run
    predictor: Predictor
    own: OwnPart


def main() -> None:
    parser = report.parser(__doc__, rounds=7)
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="danlu's models, trained for one epoch each")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help="of scikit-learn's bootstrap")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.resamples = 1, QUICK_RESAMPLES
    data = QUICK_DATA if arguments.quick else DATA
    suit_process_to_training()  # before PyTorch is imported: the pass of a busy machine is then not mostly waiting
    facts = report.start_facts(arguments)
    samples: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as name:
        folder = Path(name)
        os.environ["DANLU_RUNS"] = str(folder / "runs")
        for model in arguments.models:
            trained = train(data, model, folder)
            danlu.evaluate(trained.run)  # untimed, as the first of everything
            danlu.report(trained.run)  # imports what draws the charts
            samples[model] = []
            for round_ in range(arguments.rounds):
                samples[model].append(one_round(trained, arguments.resamples, folder))
                told = "   ".join(f"{what} {value:.4g}" for what, value in samples[model][-1].items())
                report.say(f"{model}   round {round_ + 1}/{arguments.rounds}   {told}")
            images = len(trained.own.part)
    report.publish(
        arguments,
        "evaluation_overhead",
        "What scoring adds to a pass over the test part, and the report",
        {**facts, "images": images},
        [row for model, rounds in samples.items() for row in table(model, rounds, judged=images >= TARGET_FROM)],
        samples,
        [
            f"{images:,} test images of {data}, decoded before; in turn in one process, n rounds after an untimed one",
            "÷ pass alone: within a round, the median of the rounds (and range). added: what comes after the pass, and"
            " its share of the pass in the same round just before it; the target is about its median",
            "danlu's scoring: all of evaluation.json with intervals, calibration and risk–coverage, answers-test.csv,"
            " the gallery with its pictures, the count of looks, and the record, written to disk",
            "scikit-learn's: classification_report, confusion_matrix, and the macro F1 of"
            f" {arguments.resamples:,} resamples; nothing is written",
            "danlu.evaluate: all of it, with loading the model, reading the data and comparing its content",
            "`danlu report`: the whole process",
        ],
    )


def train(data: str, model: str, folder: Path) -> Trained:
    """One epoch of `danlu train`, and what `danlu.evaluate` does before its pass."""
    command = [danlu_command(), "train", data, f"model.name={model}", "training.epochs=1", "training.device=cpu"]
    _, done = report.run_process(command, folder=folder)
    run = Run(Path(done.stdout.strip().splitlines()[-1]))
    predictor = load(run)
    chosen, rows = own_part(run, "test")
    encoded = encode_examples(chosen, predictor.recipe)
    kept = encoded.part.indices
    labels = index_labels([rows[i].label for i in kept], predictor.classes)
    part = Part(encoded.part.inputs, labels, kept)
    return Trained(run, predictor, OwnPart(chosen.select(kept), tuple(rows), part))


def one_round(trained: Trained, resamples: int, folder: Path) -> dict[str, float]:
    """Seconds of everything, once each, and the bytes of the report."""
    predictor, part = trained.predictor, trained.own.part
    found: dict[str, float] = {"pass": seconds_of(lambda: predictor.plain_probabilities(part.inputs))}
    for who, scoring in (
        ("danlu", lambda plain: score_part(trained.run, Answered(predictor, plain), trained.own)),
        ("scikit-learn", lambda plain: score_by_hand(plain, part.labels, resamples)),
    ):
        started = time.perf_counter()
        plain = predictor.plain_probabilities(part.inputs)
        passed = time.perf_counter()
        scoring(plain)
        found[f"{who} pass"], found[f"{who} added"] = passed - started, time.perf_counter() - passed
    found["evaluate"] = seconds_of(lambda: danlu.evaluate(trained.run))
    found["report"] = seconds_of(lambda: danlu.report(trained.run))
    found["report process"], _ = report.run_process([danlu_command(), "report", trained.run.folder], folder=folder)
    found["report bytes"] = trained.run.report_file.stat().st_size
    return found


class Answered(Predictor):
    """A predictor that has been asked already, so that only what comes after the pass is timed."""

    def __init__(self, predictor: Predictor, plain: np.ndarray) -> None:
        super().__init__(predictor.kind, predictor.classes, predictor.recipe, predictor.engine, predictor.calibration)
        self.plain = plain

    def plain_probabilities(self, inputs: Any) -> np.ndarray:
        return self.plain


def score_by_hand(plain: np.ndarray, labels: np.ndarray, resamples: int) -> tuple[str, np.ndarray, np.ndarray]:
    """(scores of each class, confusion matrix, 95 % interval of the macro F1), as one writes it with scikit-learn."""
    answers = plain.argmax(1)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(resamples):
        chosen = rng.integers(0, len(labels), len(labels))
        drawn.append(f1_score(labels[chosen], answers[chosen], average="macro", zero_division=0))
    told = classification_report(labels, answers, zero_division=0)
    return told, confusion_matrix(labels, answers), np.quantile(drawn, [0.025, 0.975])


def seconds_of(act: Callable[[], Any]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def table(model: str, rounds: list[dict[str, float]], *, judged: bool) -> list[dict[str, Any]]:
    alone = [found["pass"] for found in rounds]
    rows = [_row(model, "the pass alone", alone, alone)]
    for who, name in (("danlu", "the pass, danlu's scoring"), ("scikit-learn", "the pass, scikit-learn by hand")):
        added = [found[f"{who} added"] for found in rounds]
        share = statistics.median(found[f"{who} added"] / found[f"{who} pass"] for found in rounds)
        row = _row(model, name, [found[f"{who} pass"] + found[f"{who} added"] for found in rounds], alone)
        row["added"] = f"{statistics.median(added):.3f} s, {share:.1%}"
        if who == "danlu" and judged:
            row["target"] = f"≤ {TARGET_SHARE:.0%} added: {'met' if share <= TARGET_SHARE else 'missed'}"
        rows.append(row)
    rows += [
        _row(model, "danlu.evaluate", [found["evaluate"] for found in rounds], alone),
        _row(model, "danlu.report", [found["report"] for found in rounds], alone),
        _row(model, "`danlu report`", [found["report process"] for found in rounds], alone),
    ]
    megabytes = max(found["report bytes"] for found in rounds) / 1e6
    rows[-1]["added"] = f"report.html: {megabytes:.2f} MB"
    if judged:
        rows[-1]["target"] = f"≤ {TARGET_MB} MB: {'met' if megabytes <= TARGET_MB else 'missed'}"
    return rows


def _row(model: str, what: str, seconds: list[float], alone: list[float]) -> dict[str, Any]:
    spread = report.summarize(seconds)
    return {
        "model": model,
        "what": what,
        "n": spread["n"],
        "seconds, median": round(spread["median"], 4),
        "min": round(spread["min"], 4),
        "max": round(spread["max"], 4),
        "÷ pass alone": report.ratio([[value] for value in seconds], [[value] for value in alone]),
        "added": "",
        "target": "",
    }


if __name__ == "__main__":
    main()
