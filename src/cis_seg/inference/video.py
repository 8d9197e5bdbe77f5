"""Reading and writing videos with OpenCV, one frame in memory at a time.

Legend: frames are (H, W, 3) uint8 RGB, upright.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cis_seg.errors import DataError

Pixels = NDArray[np.uint8]

USUAL_RATE = 25.0  # frames per second if a file has no plausible rate
HIGHEST_RATE = 1000.0  # some containers have their clock rate (90000) as frame rate
# OpenCV's usual builds have MPEG-4 but not H.264 (licence); Motion JPEG needs no library
FORMATS = (("mp4v", ".mp4"), ("MJPG", ".avi"))


def frame_count(path: Path) -> int:
    """Return the number of frames in the file's header, which may be wrong; 0 if it cannot be opened."""
    video = cv2.VideoCapture(str(path))
    try:
        return max(int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 0) if video.isOpened() else 0
    finally:
        video.release()


def frame_rate(path: Path) -> float:
    """Return the frames per second."""
    video = cv2.VideoCapture(str(path))
    try:
        rate = float(video.get(cv2.CAP_PROP_FPS))
    finally:
        video.release()
    return rate if math.isfinite(rate) and 0 < rate <= HIGHEST_RATE else USUAL_RATE


def read_frames(path: Path) -> Iterator[Pixels]:
    """Read the frames of a video in order, rotated as its metadata say.

    Raises:
        DataError: OpenCV cannot decode a frame of it.
    """
    video = cv2.VideoCapture(str(path))
    frames = 0
    try:
        while video.isOpened():
            read, frame = video.read()
            if not read:
                break
            frames += 1
            yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    finally:
        video.release()
    if not frames:
        raise DataError(
            f"{path.name} is not a readable video",
            where=path,
            expected="a complete MP4, AVI, MKV or other video",
            found="no frame that can be decoded",
            remedy="copy the file again, or convert it: ffmpeg -i IN OUT.mp4",
        )


class VideoFile:
    """A video file at ``path`` plus the suffix of the first of ``FORMATS`` that this OpenCV can write.

    All frames must have the size of the first. Encoders need even sides: an odd side is padded by repeating its last pixels.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)  # width, height

    def write(self, frame: Pixels) -> None:
        """Append one frame.

        Raises:
            DataError: this OpenCV cannot write videos.
        """
        odd_rows, odd_columns = frame.shape[0] % 2, frame.shape[1] % 2
        if self._writer is None:
            self._size = (frame.shape[1] + odd_columns, frame.shape[0] + odd_rows)
            self._writer = self._opened()
        even = np.pad(frame, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
        self._writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))

    def _opened(self) -> cv2.VideoWriter:
        for code, suffix in FORMATS:
            path = self.path.with_name(self.path.name + suffix)
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), self.rate, self._size)
            if writer.isOpened():
                return writer
        raise DataError("cannot write a video", where=self.path, expected="an OpenCV with MPEG-4 or Motion JPEG", found=cv2.__version__)

    def close(self) -> None:
        """Complete the file."""
        if self._writer is not None:
            self._writer.release()
