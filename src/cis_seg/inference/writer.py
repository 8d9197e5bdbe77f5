"""The files of a prediction: COCO results, overlays, masks. They are written one by one, so that memory does not grow.

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
PNG_LEVEL = 3  # more compression takes seconds for a large picture and saves a few percent


class PredictionFiles:
    """The output folder, open for writing; a context manager.

    Args:
        folder: created if missing; files of an earlier prediction are replaced.
        sources: all inputs; they determine the names of the outputs.
        class_names: name of each label; drawn if there are several.
        category_ids: COCO id of each label.
        draw_threshold: minimum score to be drawn and written as a mask; ``predictions.json`` has all detections.
        masks: also write a black and white PNG for each drawn mask.
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
        self.num_instances = 0  # written so far, including those below the drawing threshold
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
        """Write the results of one image or frame."""
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
        """Return the path of the overlay without suffix."""
        path = self.folder / self._names[source]
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _write_masks(self, drawings: Sequence[Drawing], photo: Photo, size: tuple[int, int]) -> None:
        name = self._names[photo.source] + ("" if photo.frame is None else f"_frame{photo.frame:06d}")
        for index, drawing in enumerate(drawings):
            path = self.folder / MASKS / f"{name}_{index:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert drawing.mask is not None, "predictions have masks"
            Image.fromarray(fitted_mask(drawing.mask, size) * np.uint8(255)).save(path, compress_level=PNG_LEVEL)

    def _video_of(self, source: Source) -> _OverlayVideo:
        """Return the open video; a frame of another video completes the previous one."""
        if self._video is None or self._video.source != source:
            self._close_video()
            self._video = _OverlayVideo(source, VideoFile(self._path(source), frame_rate(source.path)))
        return self._video

    def _close_video(self) -> None:
        if self._video is not None:
            self._video.file.close()
            self._video = None


class _OverlayVideo:
    """Frames with overlays; an instance that hardly moves between frames keeps its colour."""

    def __init__(self, source: Source, file: VideoFile) -> None:
        self.source, self.file = source, file
        self._previous: tuple[list[Drawing], list[int]] = ([], [])

    def write(self, view: Pixels, drawings: Sequence[Drawing], size: tuple[int, int]) -> None:
        ordered = far_to_near(drawings)
        colors = neighbour_colors(ordered, *self._previous)
        self._previous = (ordered, colors)
        self.file.write(draw_overlay(view, ordered, size, colors))


def draw_overlay(view: Pixels, drawings: Sequence[Drawing], size: tuple[int, int], colors: Sequence[int] | None = None) -> Pixels:
    """Draw ``drawings``, in pixels of an original of (height, width) ``size``, on the view."""
    return draw_instances(view, drawings, colors, size=size, boxes=False)


class _ResultsFile:
    """A JSON list written entry by entry and closed on every exit, so that an interrupted prediction keeps its results."""

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
    """Return the names of each source's outputs without suffix: the source's name without suffix, or its full name if two would be equal
    (the outputs of ``a.jpg`` and ``a.png`` are named ``a.jpg`` and ``a.png``).
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
