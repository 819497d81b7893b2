"""CSV, TSV and JSON lines: texts with labels, or image file names with labels."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from danlu.base.errors import ConfigError, DataError
from danlu.base.registry import nearest_names
from danlu.sources.examples import PART_NAMES, Examples, Problem, class_map, index_labels, look_alike_classes

if TYPE_CHECKING:
    from danlu.base.settings import DataSettings

TEXT_NAMES = (
    "text", "review", "content", "sentence", "comment", "message", "body", "document", "question", "title",
    "文本", "评论", "内容", "句子", "评价", "正文", "留言", "标题",
)  # fmt: skip
LABEL_NAMES = (
    "label", "class", "category", "target", "sentiment", "tag", "y",
    "标签", "类别", "分类", "情感", "类", "标注",
)  # fmt: skip
IMAGE_NAMES = (
    "image", "file", "filename", "file_name", "image_name", "path", "filepath", "file_path", "image_path", "img",
    "图片", "图像", "文件", "文件名", "路径",
)  # fmt: skip
PART_COLUMN_NAMES = ("split", "part", "subset", "划分")
FIELD_LIMIT = 16 << 20


@dataclass(frozen=True)
class Rows:
    """A table as read: its columns, and (line, cells or a reason why the line has none)."""

    columns: list[str]
    rows: Iterator[tuple[int, Mapping[str, Any] | str]]
    notes: list[str]


@dataclass(frozen=True)
class Columns:
    """Which column plays which part; exactly one of `text` and `image` is set."""

    label: str
    text: str | None
    image: str | None
    group: str | None
    part: str | None


def read(place: str | Path, settings: DataSettings) -> Examples:
    """Rows in file order. A row without a label or text, or with another number of cells, is a problem, not a guess."""
    path = Path(place)
    text, notes = _decode(path, settings.encoding)
    table = _read_json_lines(text) if path.suffix.lower() in (".jsonl", ".ndjson") else _read_csv(text, path, settings)
    notes += table.notes
    columns = _find_columns(table.columns, settings, path)
    folder = Path(settings.image_folder) if settings.image_folder else path.parent
    items: list[Any] = []
    labels: list[str] = []
    keys: list[str] = []
    parts: list[str] = []
    groups: list[str] = []
    problems: list[Problem] = []
    stripped = 0
    rows = list(table.rows)
    part_column = columns.part
    if part_column and not any(_is_part(cells.get(part_column)) for _, cells in rows if not isinstance(cells, str)):
        notes.append(f"column `{part_column}` is not read: it never says train, validation or test")
        part_column = None
    for line, cells in rows:
        key = f"line {line}"
        try:
            if isinstance(cells, str):
                raise ValueError(cells)
            label, was_stripped = _label(cells.get(columns.label))
            item = _text(cells.get(columns.text)) if columns.text else _image(cells.get(columns.image or ""), folder)
            part = _part(cells.get(part_column)) if part_column else ""
        except ValueError as error:
            problems.append(Problem(key, str(error)))
            continue
        stripped += was_stripped
        items.append(item)
        labels.append(label)
        keys.append(key if columns.text else Path(item).relative_to(folder).as_posix())
        parts.append(part)
        groups.append(_group(cells.get(columns.group)) if columns.group else "")
    if not items and problems:
        first = f"{problems[0].key} {problems[0].reason}"
        raise DataError(
            f"none of the {len(problems):,} rows of `{path}` can be used, first: {first}",
            hint="`data.image_folder=…` names the folder the file names start from" if columns.image else None,
        )
    if columns.image:
        items, labels, keys, parts, groups = _without_repeats(items, labels, keys, parts, groups, notes, path)
    classes = class_map(labels, where=f"`{path}`")
    notes += look_alike_classes(classes)
    if stripped:
        notes.append(f"{stripped:,} labels had blanks around them, which were cut")
    what = "texts" if columns.text else "images"
    return Examples(
        kind="texts" if columns.text else "images",
        items=items,
        labels=index_labels(labels, classes),
        classes=classes,
        keys=tuple(keys),
        parts=tuple(parts),
        description=f"table of {len(items):,} {what} in {len(classes)} classes "
        f"(columns `{columns.text or columns.image}` and `{columns.label}`)",
        groups=tuple(groups) if columns.group else None,
        problems=tuple(problems),
        notes=tuple(notes),
    )


def text_column_of(place: str | Path, settings: DataSettings) -> list[str]:
    """Only the texts of a table, for prediction; no label column is needed."""
    path = Path(place)
    text, _ = _decode(path, settings.encoding)
    table = _read_json_lines(text) if path.suffix.lower() in (".jsonl", ".ndjson") else _read_csv(text, path, settings)
    column = _one_of(table.columns, settings.text_column, TEXT_NAMES)
    if column is None:
        raise DataError(f"`{path}` has no text column; its columns: {_listed(table.columns)}")
    return ["" if isinstance(cells, str) else str(cells.get(column) or "") for _, cells in table.rows]


def text_lines_of(place: str | Path) -> list[str]:
    """The lines of a text file in UTF-8, UTF-16 or GB18030. Raises `DataError` for an empty one and other encodings."""
    return _decode(Path(place), "auto")[0].splitlines()


def _decode(path: Path, encoding: str) -> tuple[str, list[str]]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read `{path}`: {error.strerror}") from error
    if not raw.strip(b" \t\r\n\xef\xbb\xbf\xff\xfe"):
        raise DataError(f"`{path}` is empty")
    try:
        if encoding != "auto":
            return raw.decode(encoding).removeprefix("\ufeff"), [f"read as {encoding}, as asked"]
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            encoding = "utf-16"
            return raw.decode("utf-16"), ["text encoding UTF-16, from its byte order mark"]
        try:
            return raw.decode("utf-8-sig"), []
        except UnicodeDecodeError as error:
            utf8_error = error
        try:
            return raw.decode("gb18030"), ["text encoding GB18030: the bytes are not UTF-8 and are valid GB18030"]
        except UnicodeDecodeError:
            line = raw.count(b"\n", 0, utf8_error.start) + 1
            raise DataError(
                f"`{path}` is neither UTF-8 nor GB18030, first at line {line}", hint="name it with `data.encoding=…`"
            ) from None
    except LookupError:
        raise ConfigError(
            f"no text encoding called {encoding!r}", hint="`data.encoding=gb18030`, for example"
        ) from None
    except UnicodeError as error:
        line = raw.count(b"\n", 0, getattr(error, "start", 0)) + 1
        raise DataError(f"`{path}` is not {encoding}, first at line {line}") from None


def _read_csv(text: str, path: Path, settings: DataSettings) -> Rows:
    if "\0" in text:
        raise DataError(f"`{path}` holds a NUL character at line {text.count(chr(10), 0, text.index(chr(0))) + 1}")
    delimiter, notes = _delimiter(text, path, settings.delimiter)
    csv.field_size_limit(min(FIELD_LIMIT, sys.maxsize))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(cells for cells in reader if cells)
        columns = [name.strip() for name in header]
    except StopIteration:
        raise DataError(f"`{path}` is empty") from None
    except csv.Error as error:
        raise DataError(f"`{path}`, line 1: {error}") from error

    def rows() -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                told = "a quote is opened and never closed" if "unexpected end" in str(error) else str(error)
                raise DataError(f"`{path}`, line {line}: {told}") from error
            if not cells:
                continue
            if len(cells) != len(columns):
                yield line, f"has {len(cells)} cells, the header has {len(columns)}"
            else:
                yield line, dict(zip(columns, cells, strict=True))

    return Rows(columns, rows(), notes)


def _read_json_lines(text: str) -> Rows:
    # Not `splitlines`: a JSON text may hold U+2028 and the like as they are.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    columns: dict[str, None] = {}
    parsed: list[tuple[int, Mapping[str, Any] | str]] = []
    for number, line in lines:
        try:
            value = json.loads(line, object_pairs_hook=_without_double_keys)
        except (ValueError, RecursionError) as error:
            told = str(error) if isinstance(error, _DoubleKey) else f"is not JSON ({str(error)[:80]})"
            parsed.append((number, told))
            continue
        if not isinstance(value, dict):
            parsed.append((number, f"is a {type(value).__name__}, expected an object"))
            continue
        columns.update(dict.fromkeys(value))
        parsed.append((number, value))
    return Rows(list(columns), iter(parsed), [])


class _DoubleKey(ValueError):
    pass


def _without_double_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DoubleKey(f"has the key {next(n for n in names if names.count(n) > 1)!r} more than once")
    return values


def _delimiter(text: str, path: Path, wanted: str) -> tuple[str, list[str]]:
    if wanted != "auto":
        sign = {"tab": "\t", "\\t": "\t"}.get(wanted, wanted)
        if len(sign) != 1 or sign in '"\r\n':
            raise ConfigError(f"data.delimiter is one character, not a quote, or `tab`; got {wanted!r}")
        return sign, []
    header = text.lstrip("\r\n").split("\n", 1)[0]
    counts = {sign: header.count(sign) for sign in ("\t", ",", ";", "|")}
    best = max(counts, key=lambda sign: counts[sign])
    if counts[best] == 0:
        return "\t" if path.suffix.lower() == ".tsv" else ",", []
    expected = "\t" if path.suffix.lower() == ".tsv" else ","
    name = {"\t": "tab"}.get(best, f"`{best}`")
    return best, [] if best == expected else [f"columns are separated by {name}, seen in the header"]


def _find_columns(columns: list[str], settings: DataSettings, path: Path) -> Columns:
    repeated = {name for name in columns if columns.count(name) > 1}
    if repeated:
        raise DataError(f"`{path}` has the column {_listed(sorted(repeated))} more than once")
    asked = {
        "data.text_column": settings.text_column,
        "data.label_column": settings.label_column,
        "data.image_column": settings.image_column,
        "data.group_column": settings.group_column,
    }
    wrong = [
        (key, f"`{path}` has no column {name!r}; {nearest_names(name, columns)}")
        for key, name in asked.items()
        if name is not None and name not in columns
    ]
    if wrong:
        raise ConfigError.of_problems("the settings", wrong)
    label = _one_of(columns, settings.label_column, LABEL_NAMES)
    image = _one_of(columns, settings.image_column, IMAGE_NAMES)
    text = None if settings.image_column else _one_of(columns, settings.text_column, TEXT_NAMES)
    if text and not settings.text_column and image and image != text:
        text = None if not any(column in TEXT_NAMES[:5] for column in columns) else text
    missing = [word for word, found in (("label", label), ("text", text or image)) if found is None]
    if missing or label is None:
        raise DataError(
            f"no {' and no '.join(missing)} column recognised in `{path}`; its columns: {_listed(columns)}",
            hint="name them: " + " ".join(f"`data.{word}_column=…`" for word in missing)
            + (" (or `data.image_column=…`)" if "text" in missing else ""),
        )  # fmt: skip
    return Columns(
        label, text, None if text else image, settings.group_column, _one_of(columns, None, PART_COLUMN_NAMES)
    )


def _one_of(columns: list[str], asked: str | None, names: tuple[str, ...]) -> str | None:
    if asked is not None:
        return asked
    by_name = {column.strip().lower(): column for column in columns}
    return next((by_name[name] for name in names if name in by_name), None)


def _label(value: Any) -> tuple[str, bool]:
    if value is None or isinstance(value, (list, dict, float)):
        raise ValueError(f"has no usable label ({json.dumps(value)})")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not text.strip():
        raise ValueError("has an empty label")
    _check_writable(text, "label")
    return text.strip(), text != text.strip()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"has no text but {'nothing' if value is None else type(value).__name__}")
    if not value.strip():
        raise ValueError("has an empty text")
    return value


def _image(value: Any, folder: Path) -> Path:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("has no file name")
    _check_writable(value, "file name")
    name = value.strip().replace("\\", "/")
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError(f"names `{value}`, outside the image folder `{folder}`")
    if not os.path.isfile(folder / name):  # unlike Path.is_file, also for a name that is too long
        raise ValueError(f"names `{value}`, which is not in `{folder}`")
    return folder / name


def _check_writable(text: str, what: str) -> None:
    """Half of a surrogate pair, which JSON can spell, is no character and cannot be written to any file."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"has a {what} with a broken character ({text!a})") from None


def _group(value: Any) -> str:
    """The group as text; empty, which ties it to nothing, where the cell is missing or blank."""
    return "" if value is None else str(value).strip()


def _is_part(value: Any) -> bool:
    return str(value).strip().lower() in PART_NAMES


def _part(value: Any) -> str:
    if not _is_part(value):
        raise ValueError(f"is in part {value!r}, expected train, validation or test")
    return PART_NAMES[str(value).strip().lower()]


def _without_repeats(
    items: list[Any],
    labels: list[str],
    keys: list[str],
    parts: list[str],
    groups: list[str],
    notes: list[str],
    path: Path,
) -> tuple[list[Any], list[str], list[str], list[str], list[str]]:
    """A file named twice counts once; named with two labels it is an error, since one of them is wrong."""
    first: dict[Any, int] = {}
    moved = 0
    for index, item in enumerate(items):
        if item not in first:
            first[item] = index
            continue
        moved += parts[first[item]] != parts[index]
        if labels[first[item]] != labels[index]:
            raise DataError(
                f"`{path}` gives `{keys[index]}` two labels: `{labels[first[item]]}` and `{labels[index]}`",
                hint="remove the wrong row",
            )
    kept = sorted(first.values())
    if len(kept) < len(items):
        notes.append(f"{len(items) - len(kept):,} rows name a file named before and count once")
    if moved:
        notes.append(f"{moved:,} of them put it in another part; the first row decides")
    return tuple([values[i] for i in kept] for values in (items, labels, keys, parts, groups))  # type: ignore[return-value]


def _listed(columns: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in columns[:12]) + (" …" if len(columns) > 12 else "")
