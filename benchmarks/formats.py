"""What each format changes: size, accuracy on test examples, and the time of one example and of 64 together.

TorchScript and dynamic quantization are there for what already uses them; this is what they cost beside fp32 in ONNX
and static int8. Every export measures its model in turn with the trained one; the figures are what it wrote.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import report

import danlu

FORMATS = ("int8", "dynamic-int8", "torchscript", "torch-export")  # fp32 in ONNX is in the first two
IMAGE_MODELS, TEXT_MODELS = ("mlp", "digit_cnn", "vgg_cnn"), ("textcnn", "bilstm")
EPOCHS = {"mlp": 20, "digit_cnn": 8, "vgg_cnn": 8, "textcnn": 3, "bilstm": 3}


def main() -> None:
    parser = report.parser(__doc__, rounds=3)
    parser.add_argument("--reviews", type=Path, help="a table of texts, for the text models")
    arguments = parser.parse_args()
    models = [*IMAGE_MODELS, *(TEXT_MODELS if arguments.reviews else ())]
    if arguments.quick:
        arguments.rounds, models = 1, ["mlp"]
    facts = report.start_facts(arguments)
    samples: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as name:
        folder = Path(name)
        os.environ["DANLU_RUNS"] = str(folder / "runs")
        for model in models:
            data: Any = arguments.reviews if model in TEXT_MODELS else "digits"
            settings: dict[str, Any] = {"model.name": model, "training.epochs": EPOCHS[model]}
            run = danlu.train(data, settings if model in TEXT_MODELS else {**settings, "data.image_size": 28})
            samples[model] = [one_round(run, folder / f"{model}-{n}") for n in range(arguments.rounds)]
            report.say(f"{model}: {len(samples[model])} rounds")
    report.publish(
        arguments,
        "formats",
        "What each format changes",
        facts,
        [row for model in models for row in table(model, samples[model])],
        samples,
        [
            "trained: in PyTorch, beside the same export; ÷ trained: its time divided by that of the trained model",
            "accuracy: the trained model's on validation examples, then the change on all test examples with its 95 %"
            " interval; where nothing is told the labels of all held-out examples are the same",
        ],
    )


def one_round(run: danlu.Run, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for format in FORMATS:
        made = danlu.export(run, format, out=folder / format, max_drop=0.9 if "int8" in format else None)
        rows = json.loads((made / "engines.json").read_text(encoding="utf-8"))["shipped"]
        proof = json.loads((made / "parity.json").read_text(encoding="utf-8"))
        trained = rows[0]
        for row in rows:
            if row["name"] not in found:
                told = proof.get("variants", {}).get(row["name"], {}).get("test")
                found[row["name"]] = {**row, "trained": trained["speed"], "change": told}
    return found


def table(model: str, rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for name in rounds[0]:
        found = [samples[name] for samples in rounds]
        change = found[0]["change"]
        accuracy = f"{found[0]['accuracy']:.2%}" if name == "trained" else "same" if change is None else told(change)
        alone = [one["speed"]["p50_ms"] for one in found]
        together = [one["speed"]["per_second"] for one in found]
        rows.append(
            {
                "model": model,
                "format": name,
                "MB": f"{found[0]['size_bytes'] / 1e6:.2f}",
                "accuracy": accuracy,
                "ms, one": f"{statistics.median(alone):.3f}",
                "one ÷ trained": report.ratio([[ms] for ms in alone], [[one["trained"]["p50_ms"]] for one in found]),
                "a second, by 64": f"{statistics.median(together):,.0f}",
                "64 ÷ trained": report.ratio(
                    [[one["trained"]["per_second"]] for one in found], [[n] for n in together]
                ),
            }
        )
    return rows


def told(change: Mapping[str, Any]) -> str:
    low, high = (100 * bound for bound in change["change_interval"])
    return f"{100 * change['change']:+.2f} ({low:+.2f} to {high:+.2f}) points, {change['examples']:,} examples"


if __name__ == "__main__":
    main()
