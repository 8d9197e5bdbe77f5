"""What a prediction leaves on the disk: COCO results, overlays, masks. Written as they come, so memory does not grow.

Legend: H W size of the upright file in pixels; a view is the picture drawn on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from PIL import Image

from cis_seg.coco.results import to_results
from cis_seg.inference.inputs import Source
from cis_seg.inference.photos import Photo
from cis_seg.inference.video import FORMATS, VideoFile, frame_rate
from cis_seg.structures import Instances
from cis_seg.visualization.drawing import Drawing, Pixels, draw_instances, far_to_near, fitted_mask, neighbour_colors, predicted_drawings

PREDICTIONS, MASKS = "predictions.json", "masks"
OVERLAY_SUFFIXES = (".png", *(suffix for _, suffix in FORMATS))
PNG_LEVEL = 3  # because more compression takes seconds for a large picture and saves a few percent


class PredictionFiles:
    """The output folder, open for writing; a context manager.

    Args:
        folder: made if it is not there; files of an earlier prediction are replaced.
        sources: all inputs, from which the names of the outputs follow.
        class_names: name of each label; shown where there are several.
        category_ids: COCO id of each label.
        draw_threshold: least score of what is drawn and written as a mask; ``predictions.json`` holds everything.
        masks: write a black and white PNG for each drawn mask too.
    """

    def __init__(
        self,
        folder: Path,
        sources: Sequence[Source],
        *,
        class_names: Sequence[str],
        category_ids: Sequence[int],
        draw_threshold: float,
        masks: bool,
    ) -> None:
        self.folder, self.class_names, self.category_ids = folder, class_names, category_ids
        self.draw_threshold, self.masks = draw_threshold, masks
        self.num_instances = 0  # written so far, those below the drawing threshold included
        self._names = output_names(sources)
        self._stack = ExitStack()
        self._results: _ResultsFile
        self._video: _OverlayVideo | None = None

    def __enter__(self) -> PredictionFiles:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._results = self._stack.enter_context(_ResultsFile(self.folder / PREDICTIONS))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close_video()
        self._stack.close()

    def write(self, photo: Photo, instances: Instances) -> None:
        """All that belongs to one image or frame."""
        where = {"file_name": photo.source.file_name} | ({} if photo.frame is None else {"frame": photo.frame})
        entries = to_results(instances, photo.example.image_id, self.category_ids)
        self._results.write([entry | where for entry in entries])
        self.num_instances += len(entries)
        drawings = predicted_drawings(instances, self.class_names, self.draw_threshold)
        path = self._path(photo.source)
        if photo.frame is None:
            view = draw_overlay(photo.view, far_to_near(drawings), instances.image_size)
            Image.fromarray(view).save(path.with_name(path.name + ".png"), compress_level=PNG_LEVEL)
        else:
            self._video_of(photo.source).write(photo.view, drawings, instances.image_size)
        if self.masks:
            self._write_masks(drawings, photo, instances.image_size)

    def _path(self, source: Source) -> Path:
        """The overlay's path without its suffix."""
        path = self.folder / self._names[source]
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _write_masks(self, drawings: Sequence[Drawing], photo: Photo, size: tuple[int, int]) -> None:
        name = self._names[photo.source] + ("" if photo.frame is None else f"_frame{photo.frame:06d}")
        for place, drawing in enumerate(drawings):
            path = self.folder / MASKS / f"{name}_{place:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert drawing.mask is not None, "predictions have masks"
            Image.fromarray(fitted_mask(drawing.mask, size) * np.uint8(255)).save(path, compress_level=PNG_LEVEL)

    def _video_of(self, source: Source) -> _OverlayVideo:
        """The open video; frames come video after video, so the one before is complete."""
        if self._video is None or self._video.source != source:
            self._close_video()
            self._video = _OverlayVideo(source, VideoFile(self._path(source), frame_rate(source.path)))
        return self._video

    def _close_video(self) -> None:
        if self._video is not None:
            self._video.file.close()
            self._video = None


class _OverlayVideo:
    """Frames with what was found in them; who stays nearly in place from frame to frame keeps the colour."""

    def __init__(self, source: Source, file: VideoFile) -> None:
        self.source, self.file = source, file
        self._before: tuple[list[Drawing], list[int]] = ([], [])

    def write(self, view: Pixels, drawings: Sequence[Drawing], size: tuple[int, int]) -> None:
        ordered = far_to_near(drawings)
        colors = neighbour_colors(ordered, *self._before)
        self._before = (ordered, colors)
        self.file.write(draw_overlay(view, ordered, size, colors))


def draw_overlay(view: Pixels, drawings: Sequence[Drawing], size: tuple[int, int], colors: Sequence[int] | None = None) -> Pixels:
    """The picture with ``drawings``, which are in pixels of an original of (height, width) ``size``."""
    return draw_instances(view, drawings, colors, size=size, boxes=False)


class _ResultsFile:
    """A JSON list written entry by entry. It is complete at every exit, so an interrupted prediction leaves what it has found."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO
        self._empty = True

    def __enter__(self) -> _ResultsFile:
        self._file = self.path.open("w", encoding="utf-8")
        self._file.write("[")
        return self

    def write(self, entries: Sequence[Mapping[str, Any]]) -> None:
        for entry in entries:
            self._file.write(("\n" if self._empty else ",\n") + json.dumps(entry))
            self._empty = False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.write("\n]\n")
        self._file.close()


def output_names(sources: Sequence[Source]) -> dict[Source, str]:
    """What the outputs of each source are called, without suffix: like the source, and like its whole name (``a.jpg`` and
    ``a.png`` give ``a.jpg`` and ``a.png``) where two would be called the same.
    """
    short = {source: source.file_name[: -len(source.path.suffix) or None] for source in sources}
    counts = Counter(name.lower() for name in short.values())
    names: dict[Source, str] = {}
    for source, name in short.items():
        name = name if counts[name.lower()] == 1 else source.file_name
        while name in names.values():
            name += "_"
        names[source] = name
    return names
