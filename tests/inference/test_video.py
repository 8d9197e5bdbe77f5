"""Videos: frames in, frames out, one at a time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cis_seg.errors import DataError
from cis_seg.inference.video import USUAL_RATE, VideoFile, frame_count, frame_rate, read_frames


def test_video_round_trip(tmp_path: Path) -> None:
    frames = [np.full((48, 64, 3), (250 - 40 * k, 20, 40 * k), dtype=np.uint8) for k in range(5)]
    file = VideoFile(tmp_path / "clip.x", 12.5)
    for frame in frames:
        file.write(frame)
    file.close()
    (path,) = tmp_path.iterdir()
    assert path.name in ("clip.x.mp4", "clip.x.avi")
    assert frame_rate(path) == pytest.approx(12.5)
    assert frame_count(path) == 5
    for found, frame in zip(read_frames(path), frames, strict=True):
        assert np.abs(found.astype(int) - frame).max() < 25  # a lossy codec, but red stays red


def test_odd_sizes_are_made_even(tmp_path: Path) -> None:
    file = VideoFile(tmp_path / "clip", 10.0)
    file.write(np.zeros((33, 47, 3), dtype=np.uint8))
    file.close()
    assert [frame.shape for frame in read_frames(next(tmp_path.iterdir()))] == [(34, 48, 3)]


def test_file_that_is_not_a_video(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"no video at all")
    with pytest.raises(DataError, match=r"clip\.mp4 is not a readable video"):
        list(read_frames(tmp_path / "clip.mp4"))
    assert frame_count(tmp_path / "clip.mp4") == 0
    assert frame_rate(tmp_path / "clip.mp4") == USUAL_RATE


def test_missing_codec_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.VideoWriter, "fourcc", staticmethod(lambda *code: -2))
    monkeypatch.setattr("cis_seg.inference.video.FORMATS", (("none", ".unknown"),))
    with pytest.raises(DataError, match="cannot write a video"):
        VideoFile(tmp_path / "clip", 10.0).write(np.zeros((32, 32, 3), dtype=np.uint8))
    VideoFile(tmp_path / "nothing", 10.0).close()
