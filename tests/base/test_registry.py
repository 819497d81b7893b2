"""Tables of members: loaded when asked for, and a wrong name is told the nearest ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

from danlu.base.errors import ConfigError
from danlu.base.registry import Member, Registry, nearest_names
from danlu.sources import SOURCES

SHAPES = Registry(
    "shape",
    {
        "circle": Member("fractions:Fraction", "round", kinds=("images",)),
        "square": Member("fractions", "four corners", kinds=("texts",)),
        "line": Member("no_such_module:thing", "never loaded"),
    },
)


def test_member_is_the_attribute_or_the_module_its_target_names() -> None:
    import fractions

    assert SHAPES.load("circle") is fractions.Fraction
    assert SHAPES.load("square") is fractions


def test_listing_imports_nothing() -> None:
    code = (
        "import sys; from danlu.sources import SOURCES; SOURCES.names(); "
        "print(any(m.target.split(':')[0] in sys.modules for _, m in SOURCES))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_unknown_name_is_told_the_nearest_and_the_command_that_lists_all() -> None:
    with pytest.raises(ConfigError) as caught:
        SHAPES.load("cirle")
    assert str(caught.value) == "no shape called 'cirle'; nearest: 'circle'\n\nhint: `danlu list shapes` shows all"


def test_name_far_from_all_is_told_all() -> None:
    with pytest.raises(ConfigError, match="known: 'circle', 'line', 'square'"):
        SHAPES.load("x")


def test_names_can_be_asked_for_one_kind_of_data() -> None:
    assert SHAPES.names() == ["circle", "square", "line"]
    assert SHAPES.names("images") == ["circle", "line"]
    assert "circle" in SHAPES
    assert "oval" not in SHAPES
    assert [name for name, _ in SHAPES] == SHAPES.names()


def test_irregular_plural_is_used_in_the_hint() -> None:
    with pytest.raises(ConfigError, match="`danlu list losses` shows all"):
        Registry("loss", {}, plural="losses").load("mse")


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("resnt18", ["resnet34", "mlp", "resnet18"], "nearest: 'resnet18', 'resnet34'"),
        ("标签", ["标签列", "文本"], "nearest: '标签列'"),
        ("x", [], "known: "),
    ],
)
def test_nearest_names_come_first_and_at_most_two(name: str, known: list[str], expected: str) -> None:
    assert nearest_names(name, known) == expected


@pytest.mark.parametrize("name", SOURCES.names())
def test_every_source_loads_to_a_function_and_has_a_description(name: str) -> None:
    assert callable(SOURCES.load(name))
    assert SOURCES.members[name].description
