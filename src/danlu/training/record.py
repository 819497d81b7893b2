"""`record.md`: what a run was, what came out, what the numbers say, and what to do next. Failed runs have one too."""

from __future__ import annotations

from typing import Any

from danlu.base.files import write_text
from danlu.base.runs import Run
from danlu.checks.finding import counted

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
            losses = f"{row['train_loss']:.4f} | {_share(row['train_accuracy'])} | {row['validation_loss']:.4f}"
            lines.append(
                f"| {row['epoch'] + 1}{mark} | {losses} | {_share(row['validation_accuracy'])}"
                f" | {row['learning_rate']:.2e} | {row['seconds']:.1f} |"
            )
        lines.append("")
    evaluation = run.evaluation()
    if evaluation:
        lines += _test_table(evaluation)
    seen = [*status.get("notes", []), *_gate_told(run), *_observations(history)]
    seen += _evaluation_told(evaluation) if evaluation else []
    seen += _diagnosis_told(run)
    lines += ["## Observations", "", *(f"- {text}" for text in seen), ""]
    lines += ["## Next steps", "", *(f"- {text}" for text in _next_steps(run, status, history)), ""]
    write_text(run.record_file, "\n".join(lines))


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def _test_table(evaluation: dict[str, Any]) -> list[str]:
    intervals, macro = evaluation["intervals"], evaluation["averages"]["macro"]
    calibration = evaluation["calibration"]["after"]["expected_calibration_error"]
    low, high = intervals["log_loss"]
    rows = [
        ("accuracy", evaluation["accuracy"], intervals["accuracy"]),
        ("macro precision", macro["precision"], intervals["macro_precision"]),
        ("macro recall", macro["recall"], intervals["macro_recall"]),
        ("macro F1", macro["f1"], intervals["macro_f1"]),
    ]
    return [
        f"Test part, {evaluation['examples']:,} examples, looked at {counted(evaluation['part_looks'], 'time')} by"
        f" {counted(evaluation['part_runs'], 'run')}:",
        "",
        "| score | value | 95 % interval |",
        "|---|---|---|",
        *(f"| {name} | {value:.2%} | {pair[0]:.2%} to {pair[1]:.2%} |" for name, value, pair in rows),
        f"| log loss | {evaluation['log_loss']:.4f} | {low:.4f} to {high:.4f} |",
        f"| expected calibration error | {calibration:.2%} | |",
        "",
    ]


def _gate_told(run: Run) -> list[str]:
    gate = run.gate()
    if gate is None:
        return []
    if gate["gate"] == "off":
        return ["the data gate was off"]
    return [f"data gate, {found['severity']}: {found['message']}" for found in gate["findings"]] or [
        "the data gate found nothing"
    ]


def _diagnosis_told(run: Run) -> list[str]:
    findings = run.findings()
    if findings is None:
        return []
    told = [f"diagnosis, {row['level']}, {row['disease']}: {row['sentence']}" for row in findings["findings"]]
    told += [f"tried against {row['disease']}: `{row['command']}`, {row['told']}" for row in findings.get("tried", [])]
    return told or [f"diagnosis: none of {len(findings['looked_for'])} diseases was found"]


def _evaluation_told(evaluation: dict[str, Any]) -> list[str]:
    told: list[str] = []
    if evaluation["most_confused"]:
        pair = evaluation["most_confused"][0]
        told.append(f"most confused: {pair['truth']} taken for {pair['answer']}, {counted(pair['count'], 'time')}")
    tested = {name: row for name, row in evaluation["per_class"].items() if row["support"]}
    name, row = min(tested.items(), key=lambda item: item[1]["f1"])
    told.append(f"the weakest class is {name}: F1 {row['f1']:.2%}, recall {row['recall']:.2%}")
    before, after = (evaluation["calibration"][side]["expected_calibration_error"] for side in ("before", "after"))
    temperature = evaluation["calibration"]["temperature"]
    told.append(f"calibration error {before:.2%}, and {after:.2%} at the temperature {temperature:.3f}")
    if chosen := evaluation["rejection"]["chosen"]:
        wrong = "none" if chosen["error"] is None else f"{chosen['error']:.2%}"
        told.append(f"with `unknown` as an answer {chosen['coverage']:.1%} are answered, of which {wrong} wrong")
    return told


def _is_better(row: dict[str, Any], other: dict[str, Any]) -> bool:
    """By accuracy, and where answers are not scores of classes, by loss."""
    if row["validation_accuracy"] is None or other["validation_accuracy"] is None:
        return bool(row["validation_loss"] < other["validation_loss"])
    return bool(row["validation_accuracy"] > other["validation_accuracy"])


def _best(history: list[dict[str, Any]]) -> dict[str, Any]:
    """The first of the best epochs."""
    best = history[0]
    for row in history[1:]:
        best = row if _is_better(row, best) else best
    return best


def _observations(history: list[dict[str, Any]]) -> list[str]:
    if not history:
        return ["no epoch was finished"]
    best, last = _best(history), history[-1]
    of = f"in epoch {best['epoch'] + 1} of {len(history)}"
    if best["validation_accuracy"] is None:
        seen = [f"validation loss was lowest {of}: {best['validation_loss']:.4f}"]
    else:
        seen = [f"validation accuracy was highest {of}: {best['validation_accuracy']:.2%}"]
        gap = last["train_accuracy"] - last["validation_accuracy"]
        if gap > GAP:
            seen.append(f"train accuracy ends {gap:.1%} above validation accuracy: the model learns examples by heart")
        if gap < -GAP:
            seen.append(
                f"train accuracy ends {-gap:.1%} below validation accuracy: augmentation or dropout make training"
                " harder"
            )
    if best is last and len(history) > FLAT_EPOCHS:
        seen.append("the last epoch was the best: more epochs may still help")
    return seen


def _next_steps(run: Run, status: dict[str, Any], history: list[dict[str, Any]]) -> list[str]:
    if status["state"] in ("interrupted", "running"):
        return [f"{run.way_to_go_on()} goes on after the last checkpoint"]
    if status["state"] == "failed":
        return ["mend what the state says and start again"]
    longer = bool(history) and _best(history) is history[-1]
    if run.is_own():
        steps = [f"`{run.checkpoints_folder.name}` has the best weights, and so has the module of the trainer"]
        if longer:
            steps.append(f'`Trainer(…, settings={{"epochs": {2 * len(history)}, …}})` to train longer')
        return steps
    steps = [f"`danlu predict {run} INPUT…` to use it"]
    if status.get("test") is None:
        steps.insert(0, f"`danlu evaluate {run}` for the test part")
    else:
        steps.insert(0, f"`{run.report_file.name}` shows the examples it gets wrong")
    gate = run.gate() or {"findings": []}
    steps += [found["advice"] for found in gate["findings"] if found["severity"] == "warning"]
    if longer:
        steps.append(f"`danlu train … training.epochs={2 * len(history)}` to train longer")
    return steps
