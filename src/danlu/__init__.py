"""danlu (丹炉): from a folder of images or a table of texts to a classifier you can trust.

>>> import danlu
>>> run = danlu.train("digits", {"model.name": "mlp"})    # doctest: +SKIP
>>> danlu.evaluate(run).accuracy                          # doctest: +SKIP
0.98
>>> danlu.load(run).predict(["a.png"])                    # doctest: +SKIP

Every public name is loaded on first use, so `import danlu` costs a few milliseconds.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from danlu.base.errors import ConfigError as ConfigError
    from danlu.base.errors import DanluError as DanluError
    from danlu.base.errors import DataError as DataError
    from danlu.base.errors import MachineError as MachineError
    from danlu.base.errors import ModelError as ModelError
    from danlu.base.runs import Run as Run
    from danlu.diagnosis.cure import cure as cure
    from danlu.diagnosis.diagnose import diagnose as diagnose
    from danlu.diagnosis.probe import probe as probe
    from danlu.diagnosis.probe import probe_model as probe_model
    from danlu.evaluation.compare import compare as compare
    from danlu.evaluation.evaluate import evaluate as evaluate
    from danlu.explanation.explain import explain as explain
    from danlu.exporting.export import export as export
    from danlu.inspection.inspect import inspect as inspect
    from danlu.monitoring.comparing import compare_arms as compare_arms
    from danlu.monitoring.monitor import MonitorSettings as MonitorSettings
    from danlu.monitoring.monitor import monitor as monitor
    from danlu.prediction.predictor import Predictor as Predictor
    from danlu.prediction.predictor import load as load
    from danlu.reporting.report import report as report
    from danlu.serving.client import Client as Client
    from danlu.serving.serve import ServeSettings as ServeSettings
    from danlu.serving.serve import serve as serve
    from danlu.training.own_run import train_own as train_own
    from danlu.training.train import resume as resume
    from danlu.training.train import train as train
    from danlu.training.trainer import Trainer as Trainer
    from danlu.tuning.plan import SearchSettings as SearchSettings
    from danlu.tuning.tune import tune as tune

__version__ = "0.1.0"

# onnxruntime 1.31 sends what it is used for to its maker, on Linux too, unless this is set before it is imported; its
# own `disable_telemetry_events()` comes too late. What the user has set stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_PUBLIC = {
    "train": "danlu.training.train",
    "serve": "danlu.serving.serve",
    "ServeSettings": "danlu.serving.serve",
    "Client": "danlu.serving.client",
    "resume": "danlu.training.train",
    "tune": "danlu.tuning.tune",
    "SearchSettings": "danlu.tuning.plan",
    "Trainer": "danlu.training.trainer",
    "train_own": "danlu.training.own_run",
    "evaluate": "danlu.evaluation.evaluate",
    "diagnose": "danlu.diagnosis.diagnose",
    "cure": "danlu.diagnosis.cure",
    "explain": "danlu.explanation.explain",
    "export": "danlu.exporting.export",
    "inspect": "danlu.inspection.inspect",
    "probe": "danlu.diagnosis.probe",
    "probe_model": "danlu.diagnosis.probe",
    "report": "danlu.reporting.report",
    "compare": "danlu.evaluation.compare",
    "monitor": "danlu.monitoring.monitor",
    "MonitorSettings": "danlu.monitoring.monitor",
    "compare_arms": "danlu.monitoring.comparing",
    "load": "danlu.prediction.predictor",
    "Predictor": "danlu.prediction.predictor",
    "Run": "danlu.base.runs",
    "DanluError": "danlu.base.errors",
    "ConfigError": "danlu.base.errors",
    "DataError": "danlu.base.errors",
    "ModelError": "danlu.base.errors",
    "MachineError": "danlu.base.errors",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'danlu' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
