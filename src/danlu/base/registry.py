"""Tables of members that are loaded only when asked for: one name, one import string, one line of description."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from danlu.base.errors import ConfigError


@dataclass(frozen=True)
class Member:
    """`target` is `package.module:attribute` or a module; `kinds` the kinds of data it is for, empty for all."""

    target: str
    description: str
    kinds: tuple[str, ...] = ()


class Registry:
    """A table of members under one word, such as `model` or `schedule`.

    >>> shapes = Registry("shape", {"path": Member("pathlib:Path", "a path")})
    >>> shapes.names()
    ['path']
    >>> shapes.load("pth")
    Traceback (most recent call last):
    danlu.base.errors.ConfigError: no shape called 'pth'; nearest: 'path'
    <BLANKLINE>
    hint: `danlu list shapes` shows all
    """

    def __init__(self, word: str, members: dict[str, Member], plural: str | None = None) -> None:
        self.word = word
        self.plural = plural or f"{word}s"
        self.members = members

    def __iter__(self) -> Iterator[tuple[str, Member]]:
        return iter(self.members.items())

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def names(self, kind: str | None = None) -> list[str]:
        return [n for n, m in self if kind is None or not m.kinds or kind in m.kinds]

    def unknown(self, name: str) -> str:
        """The sentence for a name that is not in the table."""
        return f"no {self.word} called {name!r}; {nearest_names(name, self.members)}"

    def load(self, name: str) -> Any:
        """The member itself, imported now."""
        if name not in self.members:
            raise ConfigError(self.unknown(name), hint=f"`danlu list {self.plural}` shows all")
        module, _, attribute = self.members[name].target.partition(":")
        loaded = import_module(module)
        return getattr(loaded, attribute) if attribute else loaded


def nearest_names(name: str, known: Iterable[str]) -> str:
    """`nearest: 'a', 'b'`, or all the names when none is near.

    >>> nearest_names("resnt18", ["resnet18", "resnet34", "mlp"])
    "nearest: 'resnet18', 'resnet34'"
    >>> nearest_names("x", ["mlp", "bilstm"])
    "known: 'bilstm', 'mlp'"
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=2, cutoff=0.6)
    if near:
        return "nearest: " + ", ".join(repr(n) for n in near)
    return "known: " + ", ".join(repr(n) for n in names)
