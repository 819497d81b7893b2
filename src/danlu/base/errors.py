"""Every error danlu raises on purpose, and the exit code the command line gives it.

DanluError
├── ConfigError    2   a setting, option or command was not understood
├── DataError      3   the examples cannot be used as they are
│   ├── UnreadableItem   one example cannot be read; callers collect these
│   └── BadInputs        a batch holds NaN or infinite numbers (training/trainer.py)
├── ModelError     4   a model, checkpoint or export cannot be used
│   ├── NoGradient       the loss depends on no parameter (training/step.py)
│   └── NotANumber       the loss of a training is no number (training/keeper.py)
└── MachineError   5   a package, port, permission or disk is missing

Anything else that escapes is a bug of danlu's (exit code 1).
"""

from __future__ import annotations

from collections.abc import Iterable


class DanluError(Exception):
    """A fact with the received value, what was expected, and a hint that names a command or a key.

    >>> print(DataError("`photos/` holds no images", hint="give a folder with one sub-folder a class"))
    `photos/` holds no images
    <BLANKLINE>
    hint: give a folder with one sub-folder a class
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message


class ConfigError(DanluError):
    """`problems`: key and fault of each, where there are several."""

    exit_code = 2
    problems: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of_problems(cls, where: str, problems: Iterable[tuple[str, str]], *, hint: str | None = None) -> ConfigError:
        """All faults at once, one line each: the key, then what is wrong with it."""
        rows = list(problems)
        width = max(len(key) for key, _ in rows)
        count = "1 problem" if len(rows) == 1 else f"{len(rows)} problems"
        lines = [f"{count} in {where}", *(f"  {key:<{width}}   {what}" for key, what in rows)]
        made = cls("\n".join(lines), hint=hint)
        made.problems = tuple(rows)
        return made


class DataError(DanluError):
    exit_code = 3


class UnreadableItem(DataError):
    """One example cannot be read. `message` is the reason alone; the caller knows which example it was."""


class ModelError(DanluError):
    exit_code = 4


class MachineError(DanluError):
    exit_code = 5
