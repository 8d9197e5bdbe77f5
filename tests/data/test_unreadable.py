"""Images that cannot be read while a run trains, and the processes that read them."""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cis_seg.data import workers
from cis_seg.data.faults import ATTEMPTS, substitute
from cis_seg.data.workers import worker_error, worker_errors_explained
from cis_seg.errors import DataError, RunError
from cis_seg.structures import Batch
from data_modules import coco_data

SIZES: dict[str, Any] = {"train_sizes": [24], "train_max_size": 64, "test_size": 24, "test_max_size": 64, "batch_size": 4}
IMAGES = 20


@pytest.fixture
def root(tmp_path: Path, write_coco: Callable[..., Any]) -> Path:
    """Twenty images with a person each, to train on and to score."""
    polygon = [2, 3, 12, 3, 12, 15, 2, 15]
    person = {"category_id": 1, "bbox": [2, 3, 10, 12], "iscrowd": 0, "segmentation": [polygon]}
    content = {
        "images": [{"id": i, "file_name": f"{i:02d}.jpg", "height": 24, "width": 32} for i in range(IMAGES)],
        "annotations": [{"id": i + 1, "image_id": i, **person} for i in range(IMAGES)],
        "categories": [{"id": 1, "name": "person"}],
    }
    write_coco(content, "train")
    write_coco(content, "val")
    return tmp_path


def damage(root: Path, numbers: list[int], part: str = "train") -> None:
    for number in numbers:
        path = root / f"{part}2017" / f"{number:02d}.jpg"
        path.write_bytes(path.read_bytes()[:-200])


def batches(root: Path, count: int, **options: Any) -> list[Batch]:
    return list(islice(coco_data(root, **{**SIZES, **options}).train_dataloader(), count))


@pytest.mark.parametrize("workers", [0, 2])
def test_corrupt_image_is_replaced_by_another_one(root: Path, caplog: pytest.LogCaptureFixture, workers: int) -> None:
    whole = batches(root, 10)
    damage(root, [3])
    (root / "train2017" / "07.jpg").unlink()
    found = batches(root, 10, workers=workers)
    for before, after in zip(whole, found, strict=True):
        assert after.positions == before.positions
        assert len(after.image_ids) == 4
        for position, expected, image_id in zip(before.positions, before.image_ids, after.image_ids, strict=True):
            assert image_id == (substitute(IMAGES, 0, position, 1) if expected in (3, 7) else expected)
    assert not {3, 7} & {image_id for batch in found for image_id in batch.image_ids}
    told = [record.getMessage() for record in caplog.records if "an unreadable image was replaced by another" in record.getMessage()]
    assert len(told) == 2, "once a file, though two epochs drew them"
    assert any("03.jpg cannot be read as an image" in line for line in told)
    assert any("image 07.jpg is missing" in line for line in told)
    assert "(2 of 20 so far)" in told[1]


def test_substitute_depends_only_on_seed_and_position() -> None:
    drawn = {substitute(1000, seed, position, attempt) for seed in range(3) for position in range(5) for attempt in (1, 2)}
    assert len(drawn) > 25
    assert substitute(1000, 1, 7, 2) == substitute(1000, 1, 7, 2)


def test_missing_first_image_does_not_mean_a_wrong_folder(root: Path) -> None:
    (root / "train2017" / "00.jpg").unlink()
    assert len(batches(root, 5)) == 5


def test_many_corrupt_images_stop_training(root: Path) -> None:
    damage(root, [1, 2, 3])
    assert len(batches(root, 10, max_faulty=0.15)) == 10
    with pytest.raises(DataError, match=r"too many images cannot be read: 3 of 20[\s\S]*at most 0\.1 of[\s\S]*0[123]\.jpg cannot be read"):
        batches(root, 10)


@pytest.mark.parametrize("workers", [0, 2])
def test_set_without_readable_images_stops_immediately(root: Path, workers: int) -> None:
    damage(root, list(range(IMAGES)))
    with pytest.raises(
        DataError, match=rf"{ATTEMPTS * 4} randomly chosen images in a row could not be read[\s\S]*and {ATTEMPTS * 4 - 3} more"
    ) as stop:
        batches(root, 1, workers=workers, max_faulty=1)
    assert "Traceback" not in str(stop.value)
    with pytest.raises(DataError, match=r"too many images cannot be read: \d+ of 20"):
        batches(root, 1, workers=workers)


def test_an_image_to_score_must_be_read(root: Path) -> None:
    damage(root, [4], "val")
    (loader,) = coco_data(root, max_faulty=1, **SIZES).val_dataloader()
    with pytest.raises(DataError, match=r"an image to score cannot be read[\s\S]*would change the score: 04\.jpg") as stop:
        list(loader)
    assert str(root / "val2017" / "04.jpg") in str(stop.value)


def test_an_image_beyond_pils_limit_is_named(root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 32 // 2 - 1)
    with pytest.raises(DataError, match=r"exceeds limit of 766 pixels\b"):
        batches(root, 1)


class _Waits:
    """A transform that hangs at one image."""

    def __init__(self, transform: Callable[..., Any], image_id: int) -> None:
        self.transform, self.image_id = transform, image_id

    def __call__(self, sample: Any, position: int) -> Any:
        if sample.image_id == self.image_id:
            time.sleep(60)
        return self.transform(sample, position)


def test_hanging_worker_is_reported_with_its_images(root: Path) -> None:
    data = coco_data(root, workers=2, worker_timeout=3, **SIZES)
    data.train_transform = _Waits(data.train_transform, image_id=5)  # type: ignore[assignment]
    expected = next(batch.image_ids for batch in batches(root, 10) if 5 in batch.image_ids)
    began = time.monotonic()
    with pytest.raises(RunError, match=r"is not responding[\s\S]*05\.jpg[\s\S]*data\.worker_timeout[\s\S]*resume=true") as stop:
        list(islice(data.train_dataloader(), 10))
    assert time.monotonic() - began < 50
    assert all(f"{image_id:02d}.jpg" in str(stop.value) for image_id in expected)


def test_stopped_worker_is_reported_and_killed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has read the next batch, and does not hand it over: torch alone would wait for ever."""
    monkeypatch.setattr(workers, "GRACE", 1.0)
    stream: Any = iter(coco_data(root, workers=2, worker_timeout=2, **SIZES).train_dataloader())
    next(stream)
    readers = stream.gi_frame.f_locals["batches"]._workers
    time.sleep(1)  # they read ahead
    for reader in readers:
        os.kill(reader.pid, signal.SIGSTOP)
    with pytest.raises(RunError, match=r"is not responding[\s\S]*nothing for 2 seconds[\s\S]*resume=true"):
        list(islice(stream, 10))
    assert not any(reader.is_alive() for reader in readers)


def _killed(batches: Iterator[Batch]) -> None:
    next(batches)
    (worker, *_) = batches.gi_frame.f_locals["batches"]._workers  # type: ignore[attr-defined]
    os.kill(worker.pid, signal.SIGKILL)
    for _ in range(100):
        next(batches)
        time.sleep(0.05)


def test_killed_worker_is_reported(root: Path) -> None:
    data = coco_data(root, workers=1, worker_timeout=8, **SIZES)  # seldom, the signal is lost and torch notices at the timeout
    with (
        pytest.raises(RunError, match=r"a data-loading worker died[\s\S]*data\.workers[\s\S]*resume=true"),
        worker_errors_explained(),
    ):
        _killed(iter(data.train_dataloader()))


@pytest.mark.timeout(60)
def test_the_shutdown_of_workers_waits_for_no_lock(root: Path) -> None:
    """torch's own shutdown waits without a limit for the event's lock, and a forked process shuts down the workers of its parent."""
    fork = multiprocessing.get_context("fork").Process
    loader = coco_data(root, workers=2, **SIZES).train_dataloader()
    stream: Any = iter(loader)
    next(stream)
    iterator = stream.gi_frame.f_locals["batches"]
    forked = fork(target=loader.close)
    forked.start()
    forked.join()
    assert forked.exitcode == 0
    assert all(reader.is_alive() for reader in iterator._workers)
    killed = fork(target=lambda: (iterator._workers_done_event._cond.acquire(), os.kill(os.getpid(), signal.SIGKILL)))
    killed.start()
    killed.join()
    loader.close()
    assert not any(reader.is_alive() for reader in iterator._workers)
    assert len(list(islice(loader, 2))) == 2, "new workers"


def test_torchs_messages_about_its_processes() -> None:
    bus = "DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory."
    error = worker_error(RuntimeError(bus), [Path(f"{i}.jpg") for i in range(6)])
    assert error is not None
    assert "found: DataLoader worker (pid 12) is killed by signal: Bus error" in str(error)
    assert "--shm-size" in str(error)
    assert "3.jpg\n    and 2 more" in str(error)
    assert worker_error(RuntimeError("DataLoader worker (pid(s) 3, 4) exited unexpectedly")) is not None
    assert worker_error(RuntimeError("CUDA out of memory")) is None
    broken = worker_error(ConnectionResetError("Connection reset by peer"))
    assert broken is not None
    assert "found: the connection to it broke (ConnectionResetError)" in str(broken)
    assert worker_error(EOFError("Caught EOFError in DataLoader worker process 0.")) is None
    with pytest.raises(RuntimeError, match="CUDA"), worker_errors_explained():
        raise RuntimeError("CUDA out of memory")


def _resources(pid: int) -> tuple[int, int]:
    """Open files, and memory of its own in KB, of a process."""
    _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), (resident - shared) * resource.getpagesize() // 1024


def _peak(stream: Iterator[Batch], processes: list[int], count: int) -> list[tuple[int, int]]:
    """The most that each process held at any of ``count`` batches: from one to the next it depends on how many are on their way."""
    seen = []
    for _ in range(count):
        next(stream)
        seen.append([_resources(pid) for pid in processes])
    return [(max(files for files, _ in process), max(memory for _, memory in process)) for process in zip(*seen, strict=True)]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="counts by Linux's /proc")
@pytest.mark.slow
def test_open_files_and_memory_do_not_grow(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Over 40 epochs of 20 images, two of them damaged: in the main process and in both that read."""
    damage(root, [3, 5])
    caplog.set_level(logging.ERROR)
    data = coco_data(root, workers=2, **{**SIZES, "train_sizes": [128], "train_max_size": 512, "batch_size": 6})
    stream: Any = iter(data.train_dataloader())
    processes = [os.getpid(), *(worker.pid for worker in (next(stream), *stream.gi_frame.f_locals["batches"]._workers)[1:])]
    _peak(stream, processes, 20)
    before = _peak(stream, processes, 20)
    for _ in range(80):
        next(stream)
    after = _peak(stream, processes, 20)
    print("open files and private KB:", before, after)
    for (files, memory), (files_after, memory_after) in zip(before, after, strict=True):
        # a batch has 13 tensors; of the 100 batches between, a file left open in each would be 100, an image left in memory 6.5 MB
        assert files_after <= files + 26
        assert memory_after <= memory + 4_000
