"""A diagnosis with the line that cures it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu.base.config import words_of
from danlu.base.log import pasted
from danlu.base.runs import Run
from danlu.diseases.diagnosis import Cure, Diagnosis


@dataclass(frozen=True)
class Found:
    """`command`: a line to paste; None where only its owner's code or data can be changed."""

    diagnosis: Diagnosis
    command: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {**self.diagnosis.to_json(), "command": self.command}


def command_of(
    cure: Cure,
    data: str | Path,
    given: Sequence[str] = (),
    config: str | Path | None = None,
    run: Run | None = None,
) -> str | None:
    """The line that trains with what was given before and the cure on top; or the verb that helps.

    `given`: `section.key=value` words; `config`: a YAML file; `run`: what the cure is of.

    >>> command_of(Cure("", {"training.learning_rate": 0.01}), "digits", ["model.name=mlp", "training.learning_rate=9"])
    'danlu train digits model.name=mlp training.learning_rate=0.01'
    """
    if cure.settings:
        kept = [word for word in given if word.partition("=")[0] not in cure.settings]
        file = [] if config is None else ["--config", str(config)]
        words = ["danlu", "train", str(data), *file, *kept, *words_of(cure.settings)]
        return " ".join(map(pasted, words))
    if cure.command:
        told = {"DATA": str(data), "RUN": str(run)}
        words = cure.command.split()
        file = ["--config", str(config)] if config is not None and "DATA" in words else []  # it reads the data alike
        return " ".join(["danlu", *(pasted(told.get(word, word)) for word in words), *map(pasted, file)])
    return None
