"""An example as a person sees it on a page: its text, or its picture as a data URL."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np

from danlu.base.errors import UnreadableItem
from danlu.inputs.images import thumbnail
from danlu.inputs.texts import clean_text

SIGNS = 400


def shown(item: str | Path | np.ndarray) -> dict[str, str]:
    """`{"text": …}` or `{"picture": "data:image/…"}` of a text, an image file or uint8 pixels.

    A long text is cut after 400 signs; an image that cannot be read is the reason in words.

    >>> shown("很好吃")
    {'text': '很好吃'}
    """
    if isinstance(item, str):
        text = clean_text(item)
        return {"text": text[:SIGNS] + ("…" if len(text) > SIGNS else "")}
    try:
        picture = thumbnail(item)
    except UnreadableItem as error:
        return {"text": f"({error.message})"}
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return {"picture": f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"}
