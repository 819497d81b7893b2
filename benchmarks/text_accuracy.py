"""Test accuracy and seconds on a table of texts: danlu's defaults, danlu's bilstm, and scikit-learn on the same split.

Round r splits with seed r and trains with seed r. Every competitor of a round has the same test texts; scikit-learn
learns from the train part, and in a second row from train and validation together, since danlu uses the validation
part to choose its best epoch.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import report
from startup import danlu_command

from danlu.base.config import read_config
from danlu.base.runs import Run
from danlu.data.split import read_manifest
from danlu.sources.recognize import read_examples

REGULARIZATION_C = 10
DANLU = {"danlu, defaults": [], "danlu, model.name=bilstm": ["model.name=bilstm"]}
SCIKIT_LEARN = {
    "TF-IDF + logistic regression, train": ["train"],
    "TF-IDF + logistic regression, train + validation": ["train", "validation"],
}


def main() -> None:
    parser = report.parser(__doc__, rounds=5)
    parser.add_argument("--data", type=Path, required=True, help=".csv, .tsv or .jsonl of texts and labels")
    parser.add_argument("--settings", nargs="*", default=[], help="section.key=value for both danlu runs")
    parser.add_argument("--c", type=float, default=REGULARIZATION_C, help="C of the logistic regression")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = 1
    words = [*arguments.settings, "training.device=cpu", *(["training.epochs=1"] if arguments.quick else [])]
    data = arguments.data.resolve()
    facts = report.start_facts(arguments)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in (*DANLU, *SCIKIT_LEARN)}
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as name:
        folder = Path(name)
        for seed in range(arguments.rounds):
            seeded = [*words, f"training.seed={seed}", f"data.split_seed={seed}"]
            runs = folder / f"runs-{seed}"
            manifests = set()
            for who, extra in DANLU.items():
                run, result = train_danlu(data, [*seeded, *extra], folder, runs)
                manifests.add(run.manifest_file.read_text(encoding="utf-8"))
                _keep(results, who, result)
            if len(manifests) != 1:
                raise SystemExit("danlu's two runs of a round did not get the same split")
            split = write_split(data, seeded, run, folder / "split.json")
            for who, parts in SCIKIT_LEARN.items():
                command = [sys.executable, report.HERE / "peers" / "text_tfidf.py", "--data", folder / "split.json"]
                result = report.run_child([*command, "--c", str(arguments.c), "--parts", *parts], folder=folder)
                _keep(results, who, result)
    tested = {result["test_examples"] for found in results.values() for result in found}
    commonest = Counter(label for _, label in split["test"]).most_common(1)[0][1] / len(split["test"])
    report.publish(
        arguments,
        "text_accuracy",
        f"Accuracy on the texts of {data.name}",
        facts,
        table(results),
        results,
        [
            f"test texts a round: {', '.join(map(str, sorted(tested)))}",
            f"always answering the commonest class: {commonest:.2%}",
            "n splits; accuracy − danlu is taken within a split: median (and range) in percentage points",
            "seconds, training: danlu's loop with validation and checkpoints; vectorising and fitting for scikit-learn",
            "seconds, process: the whole process, imports, reading, training and scoring the test part",
        ],
    )


def train_danlu(data: Path, words: list[str], folder: Path, runs: Path) -> tuple[Run, dict[str, Any]]:
    """`danlu train DATA …` as a user types it."""
    command = [danlu_command(), "train", data, *words]
    seconds, done = report.run_process(command, folder=folder, DANLU_RUNS=runs)
    run = Run(Path(done.stdout.strip().splitlines()[-1]))
    status = run.status()
    return run, {
        "accuracy": status["test"]["accuracy"],
        "train_seconds": status["seconds"],
        "process_seconds": seconds,
        "learned_from": status["parts"]["train"],
        "test_examples": status["test"]["examples"],
        "model": status["model"],
        "epochs": status["epochs_done"],
    }


def write_split(data: Path, words: list[str], run: Run, path: Path) -> dict[str, list[tuple[str, str]]]:
    """The run's own split with the texts, which the manifest names by key and does not hold."""
    examples = read_examples(data, read_config(None, words).settings.data)
    texts = dict(zip(examples.keys, examples.items, strict=True))
    split: dict[str, list[tuple[str, str]]] = {}
    for row in read_manifest(run.manifest_file):
        split.setdefault(row.part, []).append((texts[row.key], row.label))
    path.write_text(json.dumps(split), encoding="utf-8")
    return split


def table(results: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    reference = [result["accuracy"] for result in results[next(iter(DANLU))]]
    rows = []
    for who, found in results.items():
        accuracy = report.summarize([result["accuracy"] for result in found])
        differences = [100 * (result["accuracy"] - other) for result, other in zip(found, reference, strict=True)]
        model = next((f" ({result['model']})" for result in found if who == next(iter(DANLU))), "")
        rows.append(
            {
                "competitor": who + model,
                "learns from": found[-1]["learned_from"],
                "n": accuracy["n"],
                "test accuracy, median": f"{accuracy['median']:.2%}",
                "min": f"{accuracy['min']:.2%}",
                "max": f"{accuracy['max']:.2%}",
                "accuracy − danlu": report.spread(differences, "+.2f"),
                "seconds, training": report.spread([result["train_seconds"] for result in found]),
                "seconds, process": report.spread([result["process_seconds"] for result in found]),
            }
        )
    return rows


def _keep(results: dict[str, list[dict[str, Any]]], who: str, result: dict[str, Any]) -> None:
    results[who].append(result)
    report.say(f"split {len(results[who])}   {who}   {result['accuracy']:.2%}   {result['process_seconds']:.1f} s")


if __name__ == "__main__":
    main()
