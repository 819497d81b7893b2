"""Where examples come from: one file a source, each with `read(place, settings) -> Examples`."""

from __future__ import annotations

from danlu.base.registry import Member, Registry

SOURCES = Registry(
    "source",
    {
        "folder": Member(
            "danlu.sources.folder:read", "a folder of class folders, with or without train/ val/ test/ on top"
        ),
        "table": Member("danlu.sources.table:read", "CSV, TSV or JSON lines: texts or image file names, with labels"),
        "idx": Member("danlu.sources.idx:read", "a folder of IDX files as MNIST and Fashion-MNIST come, raw or .gz"),
        "cifar": Member("danlu.sources.cifar:read", "the folder of CIFAR-10's binary version"),
        "npz": Member("danlu.sources.npz:read", "a .npz with x_train, y_train, x_test, y_test or images, labels"),
        "known": Member("danlu.sources.known:read", "a data set by name; `danlu data list` shows them"),
    },
)
