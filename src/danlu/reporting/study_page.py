"""`study.html`: what a search tried, what mattered, and what it found."""

from __future__ import annotations

from danlu.base.studies import Study


def write_study_page(study: Study) -> None:
    """Write the page of a study from the files in its folder."""
