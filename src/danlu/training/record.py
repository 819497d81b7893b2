"""`record.md`: what a run was, what came out, what the numbers say, and what to do next. Failed runs have one too."""

from __future__ import annotations

from typing import Any

from danlu.base.files import write_text
from danlu.base.runs import Run

GAP = 0.1
FLAT_EPOCHS = 3


def write_record(run: Run) -> None:
    status, history = run.status(), run.history()
    lines = [
        f"# {run.name}",
        "",
        f"State: **{status['state']}**" + (f" — {status['stop_reason']}" if status.get("stop_reason") else ""),
        "",
    ]
    lines += ["## Configuration", "", "| what | value |", "|---|---|"]
    parts = ", ".join(f"{count:,} {name}" for name, count in status.get("parts", {}).items())
    lines += [f"| data | {status.get('data')} |", f"| parts | {parts} |", f"| model | {status.get('model')} |"]
    lines += [f"| started | {status.get('started')} |", f"| all settings | `{run.config_file.name}` |", ""]
    if history:
        lines += [
            "## Results",
            "",
            "| epoch | loss | train accuracy | validation loss | validation accuracy | rate | seconds |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in history:
            mark = " (best)" if row["epoch"] == status.get("best", {}).get("epoch") else ""
            losses = f"{row['train_loss']:.4f} | {row['train_accuracy']:.2%} | {row['validation_loss']:.4f}"
            lines.append(
                f"| {row['epoch'] + 1}{mark} | {losses} | {row['validation_accuracy']:.2%}"
                f" | {row['learning_rate']:.2e} | {row['seconds']:.1f} |"
            )
        lines.append("")
    if test := status.get("test"):
        low, high = test["accuracy_interval"]
        lines += [
            f"Test accuracy: **{test['accuracy']:.2%}** (95 % interval {low:.2%} to {high:.2%},"
            f" {test['examples']:,} examples).",
            "",
        ]
    lines += ["## Observations", "", *(f"- {text}" for text in [*status.get("notes", []), *_observations(history)]), ""]
    lines += ["## Next steps", "", *(f"- {text}" for text in _next_steps(run, status, history)), ""]
    write_text(run.record_file, "\n".join(lines))


def _observations(history: list[dict[str, Any]]) -> list[str]:
    if not history:
        return ["no epoch was finished"]
    best = max(history, key=lambda row: row["validation_accuracy"])
    last = history[-1]
    gap = last["train_accuracy"] - last["validation_accuracy"]
    seen = [
        f"validation accuracy was highest in epoch {best['epoch'] + 1} of {len(history)}:"
        f" {best['validation_accuracy']:.2%}"
    ]
    if gap > GAP:
        seen.append(f"train accuracy ends {gap:.1%} above validation accuracy: the model learns examples by heart")
    if gap < -GAP:
        seen.append(
            f"train accuracy ends {-gap:.1%} below validation accuracy: augmentation or dropout make training harder"
        )
    if best is last and len(history) > FLAT_EPOCHS:
        seen.append("the last epoch was the best: more epochs may still help")
    return seen


def _next_steps(run: Run, status: dict[str, Any], history: list[dict[str, Any]]) -> list[str]:
    if status["state"] in ("interrupted", "running"):
        return [f"`danlu train --resume {run}` goes on after the last checkpoint"]
    if status["state"] == "failed":
        return ["mend what the state says and start again"]
    steps = [f"`danlu evaluate {run}` for the test part", f"`danlu predict {run} INPUT…` to use it"]
    if history and max(history, key=lambda row: row["validation_accuracy"]) is history[-1]:
        steps.append(f"`danlu train … training.epochs={2 * len(history)}` to train longer")
    return steps
