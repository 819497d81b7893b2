"""Examples worth a look: those of the highest loss, and the surest errors of the most confused pairs."""

from __future__ import annotations

import numpy as np

from danlu.base.files import write_sealed_json
from danlu.base.runs import Run
from danlu.inputs.shown import shown
from danlu.prediction.answers import Answers
from danlu.sources.examples import Examples

HIGHEST_LOSS = 24
PAIRS = 6
OF_A_PAIR = 6


def choose_examples(answers: Answers) -> list[tuple[int, str]]:
    """(index, why) of the examples to show; the surest errors of a pair tell more than a random one.

    An example stands in one place only, errors of pairs in the order of the most confused.
    """
    hardest = np.argsort(answers.probability_of_truth, kind="stable")[:HIGHEST_LOSS]
    chosen = [(int(i), "highest loss") for i in hardest]
    shown = set(hardest.tolist())
    errors: dict[tuple[str, str], list[int]] = {}
    for i in np.flatnonzero(~answers.right).tolist():
        errors.setdefault((answers.truth[i], answers.answer[i]), []).append(i)
    for (truth, answer), own in sorted(errors.items(), key=lambda item: -len(item[1]))[:PAIRS]:
        rest = sorted((i for i in own if i not in shown), key=lambda i: -answers.confidence[i])[:OF_A_PAIR]
        chosen += [(i, f"{truth} → {answer}") for i in rest]
    return chosen


def write_gallery(run: Run, answers: Answers, examples: Examples) -> None:
    """`gallery.json`: a row an example, with its text or its picture as a data URL."""
    rows = [
        {
            "key": answers.keys[i],
            "why": why,
            "truth": answers.truth[i],
            "answer": answers.answer[i],
            "confidence": float(answers.confidence[i]),
            "probability_of_truth": float(answers.probability_of_truth[i]),
            **shown(examples.items[i]),
        }
        for i, why in choose_examples(answers)
    ]
    write_sealed_json(run.gallery_file, {"format": 1, "examples": rows})
