"""A missing package is named together with the command that installs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from danlu.base import extras
from danlu.base.errors import MachineError

WITHOUT_TORCH = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in ("torch", "sklearn") else find(name, *rest)
sys.argv = ["danlu", *{words!r}]
from danlu.cli.main import main
main()
"""


def without_torch(*words: str) -> subprocess.CompletedProcess[str]:
    code = WITHOUT_TORCH.format(words=words)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8")


def test_missing_packages_are_named_with_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(MachineError, match=r"training needs `torch`, not installed here") as caught:
        extras.require_extra("train", "training")
    assert 'pip install "danlu[train]"' in str(caught.value)


@pytest.mark.parametrize("words", [("train", "digits"), ("demo",), ("check",)])
def test_command_that_trains_ends_with_exit_code_5_in_the_light_install(words: tuple[str, ...]) -> None:
    done = without_torch(*words)
    assert done.returncode == 5
    assert 'pip install "danlu[train]"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [("list",), ("data", "list"), ("config", "show"), ("config", "schema"), ("runs",)])
def test_command_that_does_not_train_works_in_the_light_install(words: tuple[str, ...]) -> None:
    done = without_torch(*words)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
