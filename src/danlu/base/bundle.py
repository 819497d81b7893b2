"""The bundle: a model as it is shipped. What is in it and under which names; no other file of danlu spells these.

`bundle.json` is the mark: it names every other file with its size and SHA-256, and holds the hash of its own content.
A bundle holds no code and no pickle.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu.base.errors import ConfigError, ModelError
from danlu.base.files import digest_of, make_folder, remove_folder, write_atomically, write_json
from danlu.base.machine import is_alive

FORMAT = 1
MARK = "bundle.json"
PREPROCESSING = "preprocessing.json"
WEIGHTS = "weights.safetensors"
REFERENCE = "reference.json"
PARITY = "parity.json"
ENGINES = "engines.json"
CARD = "README.md"
EXPORTED = "export.json"  # the mark of files for another runtime, which are no bundle
KINDS = ("images", "texts")
OPTIMIZATIONS = ("basic", "extended", "all")
MOST_THREADS = 1024
MARK_LIMIT = 64 * 2**20
HASH_DIGITS = 12
_ANEW = "`danlu export RUN` writes it anew"


@dataclass(frozen=True)
class Bundle:
    """A folder whose mark has been read. `content`: kind, classes, calibration, variants and what is told of files."""

    folder: Path
    content: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return str(self.content["kind"])

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.content["classes"])

    @property
    def variants(self) -> dict[str, dict[str, Any]]:
        """Name → its ONNX file and what is known of it; `default` names the one that answers."""
        return dict(self.content["variants"])

    @property
    def digest(self) -> str:
        """The SHA-256 of all that the mark says, the hashes of the files among it."""
        return digest_of(self.content)

    @property
    def name(self) -> str:
        """Of the run it was made of."""
        return str(self.content.get("run") or self.folder.name)

    @property
    def version(self) -> str:
        """The first digits of its hash."""
        return self.digest[:HASH_DIGITS]

    @property
    def model(self) -> str:
        """How its answers name it: `name@version`."""
        return f"{self.name}@{self.version}"

    def __str__(self) -> str:
        return str(self.folder)

    def read(self, name: str) -> bytes:
        """The bytes of a file, which are those the mark names. Raises `ModelError`."""
        expected = self.content["files"].get(name)
        path = self.folder / name
        if expected is None:
            raise ModelError(f"`{self}` names no file `{name}`", hint=_ANEW)
        try:
            data = _read_regular(path, expected["size_bytes"])
        except OSError as error:
            raise ModelError(f"`{path}` cannot be read: {error.strerror or error}", hint=_ANEW) from error
        if len(data) != expected["size_bytes"] or hashlib.sha256(data).hexdigest() != expected["sha256"]:
            raise ModelError(f"`{path}` is not what the bundle was made with{_looks_like(data)}", hint=_ANEW)
        return data

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the bundle."""
        try:
            return dict(json.loads(self.read(name)))
        except (ValueError, TypeError, RecursionError) as error:
            raise ModelError(f"`{self.folder / name}` cannot be read: {error}", hint=_ANEW) from error

    def others(self) -> list[str]:
        """What lies in the folder and is not of the bundle."""
        return sorted({path.name for path in self.folder.iterdir()} - {MARK, *self.content["files"]})

    def verify(self) -> None:
        """Read every file. Raises `ModelError` at the first that is not what the bundle was made with."""
        for name in self.content["files"]:
            self.read(name)


def is_bundle(place: str | Path) -> bool:
    """Whether a folder has a bundle's mark, whatever is in it."""
    return os.path.lexists(Path(place) / MARK)


def open_bundle(place: str | Path) -> Bundle:
    """The bundle in a folder. Raises `ConfigError` where there is none and `ModelError` for a damaged or newer one."""
    folder = Path(place)
    path = folder / MARK
    if not is_bundle(folder):
        raise ConfigError(f"no bundle in `{folder}`: it has no `{MARK}`", hint="`danlu export RUN` makes one")
    try:
        data = _read_regular(path, MARK_LIMIT)
    except OSError as error:
        raise ModelError(f"`{path}` cannot be read: {error.strerror or error}", hint=_ANEW) from error
    try:
        written = json.loads(data)
        found, digest, content = written["format"], written["sha256"], written["content"]
        if type(found) is not int or found < 1:
            raise ValueError(f"the format {found!r} is none")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"`{path}` is damaged{_looks_like(data)}: {error}", hint=_ANEW) from error
    if found > FORMAT:
        raise ModelError(f"`{path}` has format {found}, this danlu reads up to {FORMAT}", hint="install a newer danlu")
    if not isinstance(content, dict) or digest != digest_of(content):
        raise ModelError(f"`{path}` is damaged: its content is not what was written", hint=_ANEW)
    wrong = [name for name, is_right in SCHEMA.items() if not is_right(content.get(name), content)]
    if wrong:
        raise ModelError(f"`{path}` was made by something else than danlu: {', '.join(wrong)}", hint=_ANEW)
    return Bundle(folder, content)


def write_mark(folder: Path, content: Mapping[str, Any]) -> Bundle:
    """Name all files that are in the folder, and seal it."""
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.iterdir()):
        if path.name != MARK:
            data = path.read_bytes()
            files[path.name] = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    sealed = {**content, "files": files}
    write_json(folder / MARK, {"format": FORMAT, "sha256": digest_of(sealed), "content": sealed})
    return open_bundle(folder)


def write_file(folder: Path, name: str, data: bytes) -> None:
    write_atomically(folder / name, lambda file: file.write(data))


def workshop(target: Path) -> Path:
    """An empty folder beside `target` in which its bundle is built. What a killed export left beside it is removed."""
    folder = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    for left in _left_behind(target):
        remove_folder(left)
    remove_folder(folder)
    make_folder(folder)
    return folder


def _left_behind(target: Path) -> list[Path]:
    """Folders that processes which are gone have built, or put aside, beside `target`."""
    name = re.compile(rf"\.{re.escape(target.name)}\.(\d+)\.(tmp|old)")
    beside = target.parent.iterdir() if target.parent.is_dir() else ()
    found = [(path, name.fullmatch(path.name)) for path in beside]
    return [path for path, matched in found if matched and not is_alive(int(matched[1]))]


def _read_regular(path: Path, most: int) -> bytes:
    """The file's bytes, one more than `most` at most. Raises `ModelError` for a pipe, which would wait for ever."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ModelError(f"`{path}` is not a regular file", hint=_ANEW)
    with open(path, "rb") as file:
        return file.read(most + 1)


def _are_classes(classes: Any, _: Mapping[str, Any]) -> bool:
    return (
        isinstance(classes, list)
        and all(isinstance(name, str) for name in classes)
        and len(set(classes)) == len(classes) > 0
    )


def _are_files(files: Any, _: Mapping[str, Any]) -> bool:
    """Whether every name is that of a file in the folder itself, with its size and hash."""
    return isinstance(files, dict) and all(
        Path(name).name == name
        and "\0" not in name
        and isinstance(told, dict)
        and _is_whole(told.get("size_bytes"))
        and isinstance(told.get("sha256"), str)
        for name, told in files.items()
    )


def _are_variants(variants: Any, content: Mapping[str, Any]) -> bool:
    def is_variant(told: Any) -> bool:
        how = told.get("how") if isinstance(told, dict) else None
        return (
            isinstance(how, dict)
            and isinstance(told.get("file"), str)
            and set(how) == {"threads", "optimization", "spinning"}
            and _is_whole(how["threads"], MOST_THREADS)
            and how["optimization"] in OPTIMIZATIONS
            and isinstance(how["spinning"], bool)
        )

    return isinstance(variants, dict) and all(map(is_variant, variants.values()))


def _is_whole(value: Any, most: float = math.inf) -> bool:
    return type(value) is int and 0 <= value <= most


SCHEMA: dict[str, Callable[[Any, Mapping[str, Any]], bool]] = {
    "kind": lambda kind, _: kind in KINDS,
    "classes": _are_classes,
    "calibration": lambda calibration, _: isinstance(calibration, dict),
    "files": _are_files,
    "variants": _are_variants,
    "default": lambda name, content: isinstance(name, str) and name in (content.get("variants") or ()),
}


def _looks_like(data: bytes) -> str:
    start = data[:256].lstrip().lower()
    if not data:
        return " (it is empty)"
    if start.startswith(b"version https://git-lfs"):
        return " (it is a Git LFS pointer: `git lfs pull` fetches the file)"
    if start.startswith((b"<!doctype html", b"<html")):
        return " (it is a web page)"
    return ""
