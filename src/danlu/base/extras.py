"""Optional packages: a missing one is named together with the command that installs it."""

from __future__ import annotations

from importlib.util import find_spec

from danlu.base.errors import MachineError

EXTRAS = {
    "train": ("torch", "sklearn", "safetensors", "onnx", "onnxscript"),
    "explain": ("captum",),
    "tune": ("optuna", "pg8000"),
    "monitor": ("jinja2", "matplotlib"),
    "serve": ("fastapi", "uvicorn", "uvloop", "httptools", "python_multipart", "prometheus_client", "orjson"),
}


def missing_packages(extra: str) -> list[str]:
    """The packages of an extra that cannot be found; nothing is imported."""
    return [package for package in EXTRAS[extra] if find_spec(package) is None]


def require_extra(extra: str, purpose: str) -> None:
    """Raise `MachineError` with the install command unless every package of the extra is there.

    >>> require_extra("train", "training")
    """
    missing = missing_packages(extra)
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        raise MachineError(
            f"{purpose} needs {names}, not installed here",
            hint=f'pip install "danlu[{extra}]"',
        )
