"""Pictures inside the page, as data URIs, small enough that a page of many opens at once."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from cis_seg.errors import DataError

LONGEST = 2048  # px; longer side at most: as a run draws its overlays (1936), whose small print a resampling would blur
QUALITY = 85  # of JPEG: outlines stay sharp, and a page takes a sixth of what PNG takes


def picture(path: Path, title: str) -> str:
    """An ``<figure>`` with the picture itself in it: as wide as the page, and on a click as large as it is, for its small print.

    Raises:
        DataError: no picture.
    """
    shown = f'<label><input type="checkbox"><img alt="{escape(title)}" src="{data_uri(path)}"></label>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{shown}</figure>"


def data_uri(path: Path) -> str:
    """The picture as JPEG, reduced to ``LONGEST``, in base64."""
    try:
        with Image.open(path) as image:
            reduced = image.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(
            "a picture cannot be read", where=path, expected="PNG or JPEG (of figure4 the PNG)", found=error, remedy="leave it out"
        ) from error
    reduced.thumbnail((LONGEST, LONGEST * 4))  # a page of many rows may be tall: its width is what must fit
    stored = io.BytesIO()
    reduced.save(stored, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stored.getvalue()).decode("ascii")
