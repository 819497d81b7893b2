"""`README.md` of a bundle: what the model is for, what it was made of, how good it is and where not to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from danlu.exporting.interface import interface


def card(
    content: Mapping[str, Any],
    preprocessing: Mapping[str, Any],
    facts: Mapping[str, Any],
    evaluation: Mapping[str, Any] | None,
    changes: Mapping[str, Any],
) -> str:
    """Markdown. `content`: of the bundle's mark; `facts`: name, data, parts and model of the run; `changes`: what
    `parity.json` tells of the variants beside fp32."""
    kind, classes = content["kind"], content["classes"]
    lines = [
        f"# {facts['name']}",
        "",
        f"A classifier of {kind} into {len(classes):,} classes: {', '.join(classes[:20])}"
        + (" …" if len(classes) > 20 else ""),
        "",
        "## Use",
        "",
        "```",
        f"danlu predict . {'image.jpg' if kind == 'images' else 'TEXT'}",
        "```",
        "",
        "It needs the base install of danlu, not PyTorch.",
        "",
        "## Made of",
        "",
        "| what | value |",
        "|---|---|",
        f"| architecture | {facts['model']} |",
        f"| data | {facts['data']} |",
        f"| examples | {', '.join(f'{count:,} {part}' for part, count in facts['parts'].items())} |",
        f"| made | {content['made']} with danlu {content['danlu']} |",
        "",
    ]
    if evaluation:
        lines += _scores(evaluation)
    if changes:
        lines += _variants(content, changes)
    limits = _limits(kind, classes, content, evaluation)
    if kind == "texts":
        limits.append(f"Of each text the first {preprocessing['max_length']:,} {preprocessing['tokens']} are read.")
    lines += ["## Limits", "", *(f"- {text}" for text in limits), ""]
    lines += interface(kind, content["calibration"]["temperature"], preprocessing)
    return "\n".join(lines)


def _scores(evaluation: Mapping[str, Any]) -> list[str]:
    macro, intervals = evaluation["averages"]["macro"], evaluation["intervals"]
    rows = [("accuracy", evaluation["accuracy"]), *((f"macro {name}", macro[name]) for name in macro)]
    told = []
    for name, value in rows:
        low, high = intervals[name.replace(" ", "_")]
        told.append(f"| {name.replace('f1', 'F1')} | {value:.2%} | {low:.2%} to {high:.2%} |")
    return [
        f"## Scores of the trained model on {evaluation['examples']:,} test examples",
        "",
        "| score | value | 95 % interval |",
        "|---|---|---|",
        *told,
        "",
    ]


def _variants(content: Mapping[str, Any], changes: Mapping[str, Any]) -> list[str]:
    lines = ["## Variants", "", "| variant | MB | change of accuracy | 95 % interval | on |", "|---|---|---|---|---|"]
    for name, told in content["variants"].items():
        shown = f"{name}, which answers" if name == content["default"] else name
        size = f"{told['size_bytes'] / 1e6:.2f}"
        if name not in changes:
            lines.append(f"| {shown} | {size} | that of the scores above | | |")
            continue
        part = "test" if changes[name]["test"] else "validation"
        change = changes[name][part]
        low, high = (100 * bound for bound in change["change_interval"])
        points = f"{100 * change['change']:+.2f} points | {low:+.2f} to {high:+.2f}"
        lines.append(f"| {shown} | {size} | {points} | {change['examples']:,} {part} examples |")
    return [*lines, ""]


def _limits(
    kind: str, classes: list[str], content: Mapping[str, Any], evaluation: Mapping[str, Any] | None
) -> list[str]:
    told = [
        f"Every input gets one of {len(classes):,} classes, also one that belongs to none of them.",
        f"Scores hold for {kind} that come as those of the data set came; others need an evaluation of their own.",
    ]
    threshold = content["calibration"]["threshold"]
    if threshold is not None and threshold > 1:
        told[0] = "Every answer is `unknown`: no confidence kept the rate of errors that was asked for."
    elif threshold is not None:
        told[0] = f"Below a confidence of {threshold:.2%} the answer is `unknown`; an input of no class may exceed it."
    if evaluation is None:
        return [*told, "It was not evaluated: nothing is known of its errors."]
    weak = [name for name, row in evaluation["per_class"].items() if row["support"] and row["recall"] < 0.8]
    if weak:
        told.append(f"Fewer than 4 of 5 examples are recognised of: {', '.join(weak[:10])}.")
    if evaluation["part_looks"] > 1:
        told.append(f"The test examples have been looked at {evaluation['part_looks']:,} times, which flatters scores.")
    return told
