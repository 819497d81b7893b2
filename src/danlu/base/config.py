"""From a YAML file and `key=value` words to checked settings, each value with its origin.

YAML scalars stay text until the schema types them, so `1e-4` is a number where a number is wanted,
`no` is a label where a name is wanted, and `010` is never octal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danlu.base.errors import ConfigError
from danlu.base.registry import nearest_names

if TYPE_CHECKING:
    from danlu.base.settings import Settings

SIZE_LIMIT_BYTES = 1 << 20
HINT = "`danlu config show` prints every key with its value and meaning"


@dataclass(frozen=True)
class Config:
    """Checked settings and, for each dotted key that was not left at its default, where its value came from.

    >>> config = read_config(settings={"training.epochs": 3})
    >>> config.settings.training.epochs, config.origins["training.epochs"]
    (3, 'settings')
    """

    settings: Settings
    origins: dict[str, str] = field(default_factory=dict)

    def with_chosen(self, choices: Mapping[str, tuple[Any, str]]) -> Config:
        """The configuration with `auto` values replaced: dotted key → (value, reason)."""
        tree = self.settings.model_dump()
        for key, (value, _) in choices.items():
            section, _, name = key.partition(".")
            tree[section][name] = value
        origins = {**self.origins, **{key: f"auto: {reason}" for key, (_, reason) in choices.items()}}
        return Config(type(self.settings).model_validate(tree), origins)

    def rows(self) -> list[tuple[str, Any, str]]:
        """Every effective value as (dotted key, value, origin), in the order of the schema."""
        tree = self.settings.model_dump()
        return [
            (f"{section}.{name}", value, self.origins.get(f"{section}.{name}", "default"))
            for section, values in tree.items()
            for name, value in values.items()
        ]

    def to_yaml(self, only: str | None = None) -> str:
        """YAML that `read_config` reads back to the same settings; the origin of each value is a comment.

        `only`: the one section to write; the others are then at their defaults.
        """
        lines: list[str] = []
        section = ""
        for key, value, origin in self.rows():
            head, _, name = key.partition(".")
            if only not in (None, head):
                continue
            if head != section:
                lines.append(f"{head}:")
                section = head
            comment = "" if origin == "default" else "  # " + " ".join(origin.split())
            lines.append(f"  {name}: {yaml_value(value)}{comment}")
        return "\n".join(lines) + "\n"


def read_config(
    file: str | Path | None = None,
    words: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Config:
    """Merge defaults, a YAML file, `section.key=value` words and Python settings; the later wins.

    Raises `ConfigError` with every fault at once: unknown keys with the nearest name, wrong types, bad ranges.
    """
    collected: dict[str, tuple[Any, str]] = {}
    problems: list[tuple[str, str]] = []
    if file is not None:
        _collect(read_yaml(Path(file)), f"file {file}", collected, problems)
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or "." not in key:
            problems.append((word, f"expected section.key=value, such as {_meant(word)}"))
            continue
        collected[key.strip()] = (_parse_scalar(text, problems, key), "command line")
    if settings is not None:
        _collect(settings, "settings", collected, problems)
    config = _check(collected, problems)
    if problems:
        raise ConfigError.of_problems(f"`{file}`" if file else "the settings", problems, hint=HINT)
    return config


def read_origins(file: Path) -> list[tuple[str, str, str]]:
    """Every value of a file `Config.to_yaml` wrote, as texts: (dotted key, value, origin)."""
    rows: list[tuple[str, str, str]] = []
    section = ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):
            section = line.rstrip(":")
            continue
        name, _, rest = line.strip().partition(": ")
        quoted = re.match(r'"(?:[^"\\]|\\.)*"', rest)
        end = quoted.end() if quoted else rest.find("  # ")
        value, origin = (rest, "") if end < 0 else (rest[:end], rest[end:])
        rows.append((f"{section}.{name}", value, origin.removeprefix("  # ") or "default"))
    return rows


def words_of(settings: Mapping[str, Any]) -> list[str]:
    """Settings as words of the command line, which `read_config` reads back.

    >>> words_of({"data.split": [0.6, 0.2, 0.2], "model.batch_norm": True, "training.clip_norm": None})
    ['data.split=[0.6,0.2,0.2]', 'model.batch_norm=true', 'training.clip_norm=']
    """
    return [f"{key}={_word(value)}" for key, value in settings.items()]


def _word(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_word(item) for item in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def schema() -> dict[str, Any]:
    """JSON schema of a configuration file, for editors."""
    from danlu.base.settings import Settings

    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}


def example_yaml() -> str:
    """A configuration file with every key at its default and its meaning as a comment."""
    from danlu.base.settings import Settings

    lines = ["# Keep what you change and delete the rest; `auto` is chosen from the data and said.", ""]
    for section, info in Settings.model_fields.items():
        section_type: Any = info.annotation
        lines += [f"# {section_type.__doc__}", f"{section}:"]
        for name, item in section_type.model_fields.items():
            lines += [f"  # {item.description}", f"  {name}: {yaml_value(item.default)}"]
        lines.append("")
    return "\n".join(lines)


def _collect(
    tree: Mapping[str, Any], origin: str, collected: dict[str, tuple[Any, str]], problems: list[tuple[str, str]]
) -> None:
    """Flatten `{"training": {"epochs": 3}}` and `{"training.epochs": 3}` alike into dotted keys."""
    seen: set[str] = set()

    def put(key: str, value: Any) -> None:
        if key in seen:
            problems.append((key, f"stands twice, once with a dot and once below `{key.partition('.')[0]}:`"))
        seen.add(key)
        collected[key] = (value, origin)

    for key, value in tree.items():
        if isinstance(value, Mapping):
            for name, inner in value.items():
                put(f"{key}.{name}", inner)
        elif "." in str(key):
            put(str(key), value)
        elif value is not None and value != "":
            problems.append((str(key), unknown_key(str(key)) or f"expected keys below `{key}:`, got {value!r}"))
        elif unknown := unknown_key(str(key)):
            problems.append((str(key), unknown))


def unknown_key(key: str) -> str | None:
    """The sentence for a dotted key that no section has; None for one that exists."""
    from danlu.base.settings import Settings

    section, _, name = key.partition(".")
    sections = Settings.model_fields
    if section not in sections:
        everywhere = [f"{s}.{n}" for s, info in sections.items() for n in _field_names(info.annotation)]
        same_name = [dotted for dotted in everywhere if dotted.partition(".")[2] == (name or section)]
        if same_name:
            return f"unknown key; nearest: {same_name[0]!r}"
        return f"unknown section; {nearest_names(section, sections)}"
    if not name:
        return None
    section_type: Any = sections[section].annotation
    if name in section_type.model_fields or section_type.model_config.get("extra") == "allow":
        return None
    elsewhere = [s for s, info in sections.items() if name in _field_names(info.annotation)]
    if elsewhere:
        return f"unknown key; nearest: '{elsewhere[0]}.{name}'"
    return f"unknown key; {nearest_names(name, section_type.model_fields)}"


def _meant(word: str) -> str:
    """A whole word for one that names a key without its section.

    >>> _meant("seed=0")
    'training.seed=0'
    """
    from danlu.base.settings import Settings

    key, _, text = word.partition("=")
    for section, info in Settings.model_fields.items():
        if key in _field_names(info.annotation):
            return f"{section}.{key}={text or '…'}"
    return "training.epochs=5"


def _field_names(section_type: Any) -> list[str]:
    return list(section_type.model_fields)


def _check(collected: Mapping[str, tuple[Any, str]], problems: list[tuple[str, str]]) -> Config:
    from pydantic import ValidationError

    from danlu.base.settings import Settings

    tree: dict[str, dict[str, Any]] = {}
    for key, (value, _) in collected.items():
        unknown = unknown_key(key)
        if unknown:
            problems.append((key, unknown))
            continue
        section, _, name = key.partition(".")
        tree.setdefault(section, {})[name] = value
    try:
        checked = Settings.model_validate(tree)
    except ValidationError as error:
        seen = {key for key, _ in problems}
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"][:2])
            if key not in seen:
                seen.add(key)
                problems.append((key, _sentence(key, item)))
        return Config(Settings())
    return Config(checked, {key: origin for key, (_, origin) in collected.items()})


def _sentence(key: str, item: Any) -> str:
    """What pydantic found, in the words of the user's file."""
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    return f"expected {_expected(key)}, got {item['input']!r}"


def _expected(key: str) -> str:
    """The JSON schema of one key as a phrase, so that the phrase cannot disagree with the check."""
    from danlu.base.settings import Settings

    section, _, name = key.partition(".")
    section_type: Any = Settings.model_fields[section].annotation
    if not name:
        return "keys and values"
    return _phrase(section_type.model_json_schema()["properties"][name])


def _phrase(rule: Mapping[str, Any]) -> str:
    if "anyOf" in rule:
        return " or ".join(_phrase(option) for option in rule["anyOf"])
    if "enum" in rule:
        return "one of " + ", ".join(str(value) for value in rule["enum"])
    if "const" in rule:
        return repr(rule["const"])
    if rule.get("type") == "array":
        length = f"{rule['minItems']} " if rule.get("minItems") == rule.get("maxItems") and "minItems" in rule else ""
        return f"a list of {length}values, each {_phrase(rule['items'])}"
    words = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "string": "a text",
        "null": "nothing",
    }
    phrase = words.get(str(rule.get("type")), "a value")
    limits = (
        ("minimum", "of at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "of at most"),
        ("exclusiveMaximum", "below"),
    )
    parts = [f"{word} {rule[name]}" for name, word in limits if name in rule]
    return f"{phrase} {' and '.join(parts)}" if parts else phrase


def _parse_scalar(text: str, problems: list[tuple[str, str]], key: str) -> Any:
    """A command-line value: a `[list]` is read as YAML, anything else stays text for the schema to type."""
    if not text.startswith("["):
        return text
    try:
        return _load_yaml(text)
    except ValueError as error:
        problems.append((key, str(error)))
        return "auto"


def read_yaml(path: Path, hint: str = "`danlu config init FILE` writes one") -> Mapping[str, Any]:
    """Sections of a YAML file whose values are still texts. Raises `ConfigError` for anything else."""
    try:
        if path.is_dir():
            raise ConfigError(f"`{path}` is a folder, expected a YAML file", hint=hint)
        with open(path, "rb") as file:
            raw = file.read(SIZE_LIMIT_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"no file `{path}`", hint=hint) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read `{path}`: {getattr(error, 'strerror', None) or error}") from error
    if len(raw) > SIZE_LIMIT_BYTES:
        raise ConfigError(
            f"`{path}` is larger than {SIZE_LIMIT_BYTES:,} bytes; a configuration is a short text", hint=HINT
        )
    try:
        tree = _load_yaml(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"`{path}` is not UTF-8 text (byte {error.start})", hint="save it as UTF-8") from error
    except ValueError as error:
        raise ConfigError(f"`{path}`: {error}", hint=HINT) from error
    if tree is None or tree == "":
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"`{path}` holds a {_name_of(tree)}, expected sections with keys", hint=HINT)
    return tree


def _name_of(value: object) -> str:
    return "list" if isinstance(value, list) else "single value"


def _load_yaml(text: str) -> Any:
    """YAML to dicts, lists and texts. Raises `ValueError` with the line for anything else."""
    import yaml

    class TextLoader(yaml.BaseLoader):
        """No types, no tags, no aliases, no double keys."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            event: Any = self.peek_event()
            line = event.start_mark.line + 1
            if isinstance(event, yaml.events.AliasEvent) or getattr(event, "anchor", None):
                raise ValueError(f"line {line}: anchors and aliases are not used in a configuration")
            tag = getattr(event, "tag", None)
            if tag not in (None, "!"):
                raise ValueError(f"line {line}: the tag `{tag}` is refused; only plain values are read")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                line = key_node.start_mark.line + 1
                if not isinstance(key, str):
                    raise ValueError(f"line {line}: a key must be a name")
                if key in seen:
                    raise ValueError(f"line {line}: key `{key}` stands twice")
                seen.add(key)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, TextLoader)  # noqa: S506 (builds only dicts, lists and texts)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        tab = " (use blanks, not tabs, to indent)" if "'\\t'" in str(error.problem) else ""
        raise ValueError(f"{where}{error.problem}{tab}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def yaml_value(value: Any) -> str:
    """A value as it stands in a configuration file."""
    import json

    if value is None:
        return "null"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(yaml_value(v) for v in value) + "]"
    if isinstance(value, str):
        is_plain = value.isidentifier() and value.isascii()
        if is_plain:
            return value
        # YAML allows fewer signs than JSON as they are, and reads no surrogate pairs: name the others by number.
        return "".join(
            sign if sign.isprintable() else f"\\U{ord(sign):08x}" for sign in json.dumps(value, ensure_ascii=False)
        )
    return json.dumps(value)
