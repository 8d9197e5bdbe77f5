"""Fonts for captions and titles: names of classes and files come in any script."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence
from functools import cache

from PIL import ImageFont

log = logging.getLogger(__name__)

BUILT_IN = ""  # in place of a path: Pillow's own font, which has little more than ASCII


def class_captions(names: Sequence[str]) -> list[str]:
    """Return the caption of each label: the name if there are several classes, or its number if no font has the name's characters."""
    return [_class_caption(name, label) for label, name in enumerate(names)] if len(names) > 1 else [""] * len(names)


def fitted(text: str, size: float) -> tuple[str, ImageFont.FreeTypeFont | ImageFont.ImageFont]:
    """Return ``text`` and a font of ``size`` pixels that has its characters; without such a font they become escapes (``\\u4eba``)."""
    path = _path_of(frozenset(text))
    if path is None:
        text, path = text.encode("ascii", "backslashreplace").decode(), BUILT_IN
    return text, _font(path, size)


@cache
def _font(path: str, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size) if path == BUILT_IN else ImageFont.truetype(path, size)


@cache
def _class_caption(name: str, label: int) -> str:
    if _path_of(frozenset(name)) is not None:
        return name
    log.warning(
        "no font of this machine has the characters of class %r; it is drawn as class %d (Noto fonts have all scripts)", name, label
    )
    return f"class {label}"


@cache
def _path_of(characters: frozenset[str]) -> str | None:
    """Return the first font that has all ``characters``: Pillow's, matplotlib's, then those of the system; None if there is none."""
    if all(character.isascii() for character in characters):
        return BUILT_IN
    from matplotlib.font_manager import fontManager  # here, because it takes a second and most names are ASCII
    from matplotlib.ft2font import FT2Font

    needed = {ord(character) for character in characters if unicodedata.category(character) not in ("Cc", "Cf", "Zs")}  # these are blank
    plain = sorted(fontManager.ttflist, key=lambda font: (font.name != "DejaVu Sans", font.style != "normal", font.weight != 400))
    for entry in plain:
        try:
            font = FT2Font(entry.fname)
        except (OSError, RuntimeError):  # removed since matplotlib listed it, or corrupt
            continue
        if font.scalable and entry.name != "Last Resort High-Efficiency" and needed <= font.get_charmap().keys():
            return str(entry.fname)
    return None
