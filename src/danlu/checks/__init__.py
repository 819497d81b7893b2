"""What can be wrong with data: one file a fault, each with `look(evidence) -> Finding | None`."""

from __future__ import annotations

from danlu.base.registry import Member, Registry

CHECKS = Registry(
    "check",
    {
        "unreadable": Member("danlu.checks.unreadable:look", "examples that cannot be read"),
        "missing_part": Member("danlu.checks.missing_part:look", "a part without an example"),
        "missing_class": Member("danlu.checks.missing_class:look", "a class without an example in a part"),
        "leaked_copies": Member("danlu.checks.leaked_copies:look", "equal content in two parts"),
        "leaked_near_copies": Member("danlu.checks.leaked_near_copies:look", "nearly equal content in two parts"),
        "conflicting_labels": Member("danlu.checks.conflicting_labels:look", "equal content with different labels"),
        "suspect_labels": Member("danlu.checks.suspect_labels:look", "labels a cross-validated model contradicts"),
        "few_examples": Member("danlu.checks.few_examples:look", "too few examples to learn from or to measure on"),
        "imbalance": Member("danlu.checks.imbalance:look", "classes much rarer than others"),
        "copies": Member("danlu.checks.copies:look", "equal content within a part"),
        "near_copies": Member("danlu.checks.near_copies:look", "nearly equal content within a part"),
        "outliers": Member("danlu.checks.outliers:look", "examples unlike all others"),
    },
)
