"""Exporters without their notes about packages they could use and functions they will drop."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOGGERS = ("", "torch.onnx", "torch.export", "onnxscript", "onnx_ir")


@contextmanager
def silence() -> Iterator[None]:
    """Errors alone are logged inside; what fails is raised anyway."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
