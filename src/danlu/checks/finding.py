"""What a check says: the fact with its count, how bad it is, the examples it is about, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Case:
    """Examples a finding is about, by key; several keys belong together, such as copies of one picture."""

    keys: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """`check`: its name in `CHECKS`. An `error` stops a training, a `warning` is told, a `note` stands in the report.

    >>> Finding("copies", "note", "2 examples are equal", "nothing").severity
    'note'
    """

    check: str
    severity: Severity
    message: str
    advice: str
    cases: tuple[Case, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Finding:
        cases = tuple(Case(tuple(case["keys"]), case["note"]) for case in values["cases"])
        return cls(values["check"], values["severity"], values["message"], values["advice"], cases)


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its word.

    >>> counted(1, "class", "classes"), counted(1200, "example")
    ('1 class', '1,200 examples')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(names: Iterable[str], shown: int = 3) -> str:
    """The first names in quotes.

    >>> listed(["a", "b", "c", "d"])
    '`a`, `b`, `c` and 1 more'
    """
    quoted = [f"`{name}`" for name in names]
    more = f" and {len(quoted) - shown:,} more" if len(quoted) > shown else ""
    return ", ".join(quoted[:shown]) + more
