"""The search for better settings: many short trainings on data that is read once, the winner trained in full."""

from __future__ import annotations

from danlu.base.extras import require_extra

require_extra("tune", "a search for settings")
