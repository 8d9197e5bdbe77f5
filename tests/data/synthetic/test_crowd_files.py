"""The generated crowd on disk: layout, reuse, refusals, data card."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cis_seg.data.synthetic.card import COCO_PERSONS, crowd_card, decode, labelled_images
from cis_seg.data.synthetic.files import ensure_crowd, image_id
from cis_seg.data.synthetic.scene import compose_scene
from cis_seg.data.synthetic.spec import EASY, SPLITS, CrowdPaths
from cis_seg.errors import DataError

SPEC = replace(EASY, train_images=6, val_images=4, height=120, width=160, min_person_height=60.0, max_person_height=100.0,
               ignore_probability=0.6)  # fmt: skip


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> CrowdPaths:
    return ensure_crowd(tmp_path_factory.mktemp("made") / "crowd", SPEC)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def records(crowd: CrowdPaths, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in crowd.odgt(split).read_text().splitlines()]


def test_files_do_not_depend_on_the_number_of_processes(crowd: CrowdPaths, tmp_path: Path) -> None:
    again = ensure_crowd(tmp_path / "crowd", SPEC, workers=1)
    assert contents(again.root) == contents(crowd.root)


def test_second_call_reuses_and_touches_nothing(crowd: CrowdPaths) -> None:
    before = {path: path.stat().st_mtime_ns for path in crowd.root.rglob("*")}
    assert ensure_crowd(crowd.root, SPEC) == crowd
    assert {path: path.stat().st_mtime_ns for path in crowd.root.rglob("*")} == before


def test_no_temporary_files_remain(crowd: CrowdPaths) -> None:
    assert {path.name for path in crowd.root.parent.iterdir()} == {"crowd"}


def test_another_spec_is_refused_and_nothing_is_overwritten(crowd: CrowdPaths) -> None:
    before = contents(crowd.root)
    with pytest.raises(DataError, match=r"(?s)another spec.*seed.*data\.root"):
        ensure_crowd(crowd.root, replace(SPEC, seed=7))
    assert contents(crowd.root) == before


def _drop_image(paths: CrowdPaths) -> None:
    next(paths.images.iterdir()).unlink()


def _cut_image(paths: CrowdPaths) -> None:
    image = next(paths.images.iterdir())
    image.write_bytes(image.read_bytes()[:200])


def _edit_odgt(paths: CrowdPaths) -> None:
    paths.odgt("val").write_text(paths.odgt("val").read_text().replace('"occ": 0', '"occ": 1', 1))


def _drop_masks(paths: CrowdPaths) -> None:
    paths.masks("train").unlink()


@pytest.mark.parametrize("harm", [_drop_image, _cut_image, _edit_odgt, _drop_masks])
def test_corrupt_files_are_detected_and_named(harm: Callable[[CrowdPaths], None], tmp_path: Path) -> None:
    spec = replace(SPEC, train_images=1, val_images=1)
    paths = ensure_crowd(tmp_path / "crowd", spec, workers=1)
    harm(paths)
    with pytest.raises(DataError, match=r"(?s)corrupt.*(Images|annotation_val|masks_train).*delete"):
        ensure_crowd(paths.root, spec)


def test_foreign_folders_and_unreadable_manifests_are_refused(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("Dear")
    with pytest.raises(DataError, match=r"no readable manifest\.json"):
        ensure_crowd(tmp_path / "letters", SPEC)
    (tmp_path / "letters" / "manifest.json").write_text('{"spec": {}, "files": 3')
    with pytest.raises(DataError, match=r"no readable manifest\.json"):
        ensure_crowd(tmp_path / "letters", SPEC)
    assert (tmp_path / "letters" / "dear.txt").read_text() == "Dear"


def test_files_of_an_interrupted_run_are_replaced(crowd: CrowdPaths, tmp_path: Path) -> None:
    left = tmp_path / ".crowd.partial" / "Images"
    left.mkdir(parents=True)
    (left / "half,done.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "crowd").mkdir()  # an empty folder is no obstacle
    assert contents(ensure_crowd(tmp_path / "crowd", SPEC, workers=1).root) == contents(crowd.root)


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"(?s)cannot be written.*data\.root"):
        ensure_crowd(tmp_path / "file" / "crowd", SPEC)


def test_odgt_has_crowdhumans_structure(crowd: CrowdPaths) -> None:
    entries = []
    for split, count in zip(SPLITS, (6, 4), strict=True):
        found = records(crowd, split)
        assert len(found) == count
        for record in found:
            assert set(record) == {"ID", "gtboxes"}
            assert "," in record["ID"]
            assert (crowd.images / f"{record['ID']}.jpg").is_file()
            entries += record["gtboxes"]
    assert all(isinstance(side, int) for entry in entries for key in ("fbox", "vbox", "hbox") for side in entry[key])
    people = [entry for entry in entries if entry["tag"] == "person"]
    regions = [entry for entry in entries if entry["tag"] == "mask"]
    assert len(people) + len(regions) == len(entries)
    assert regions
    for entry in people:
        assert {"box_id", "occ"} <= set(entry["extra"])
        assert set(entry["head_attr"]) == {"ignore", "occ", "unsure"}
    for entry in regions:
        assert entry["extra"] == {"ignore": 1}
        assert entry["head_attr"] == {}
        assert entry["hbox"] == entry["fbox"] == entry["vbox"]


def test_ids_are_unique_across_splits_and_seeds() -> None:
    ids = [image_id(replace(SPEC, seed=seed), split, index) for seed in (0, 1) for split in (0, 1) for index in range(50)]
    assert len(set(ids)) == len(ids)


def test_masks_follow_the_odgt_and_the_drawing(crowd: CrowdPaths) -> None:
    for split_number, split in enumerate(SPLITS):
        truth = json.loads(crowd.masks(split).read_text())
        assert truth["categories"] == [{"id": 1, "name": "person"}]
        assert [entry["id"] for entry in truth["annotations"]] == list(range(1, len(truth["annotations"]) + 1))
        for line, (image, record) in enumerate(zip(truth["images"], records(crowd, split), strict=True)):
            assert image == {"id": line, "width": SPEC.width, "height": SPEC.height, "file_name": f"{record['ID']}.jpg"}
            people = [e["vbox"] for e in record["gtboxes"] if e["tag"] == "person" and not e["extra"].get("ignore", 0)]
            masks = [entry for entry in truth["annotations"] if entry["image_id"] == line]
            assert [entry["bbox"] for entry in masks] == people
            seen = [person for person in compose_scene(SPEC, split_number, line).people if not person.ignored]
            for entry, person in zip(masks, seen, strict=True):
                assert np.array_equal(decode(entry), person.mask)
                assert entry["area"] == person.mask.sum()
                assert entry["iscrowd"] == 0
                assert entry["category_id"] == 1


def test_jpegs_show_the_drawing_in_the_right_colours(crowd: CrowdPaths) -> None:
    pixels = cv2.imread(str(crowd.images / f"{image_id(SPEC, 1, 0)}.jpg"))
    assert pixels is not None
    difference = np.abs(pixels[..., ::-1].astype(int) - compose_scene(SPEC, 1, 0).image)
    assert difference.mean() < 4


def test_card_states_counts_and_edges_beside_the_real_ones(crowd: CrowdPaths) -> None:
    card = crowd.card.read_text()
    assert card == crowd_card(crowd, SPEC)
    people = [len(json.loads(crowd.masks(split).read_text())["annotations"]) for split in SPLITS]
    assert f"| people | {people[0]} | {people[1]} |" in card
    assert "| images | 6 | 4 |" in card
    assert f"| 4, 2 | COCO | {COCO_PERSONS[4, 2].inside:.3f} |" in card
    assert len(list(labelled_images(crowd, "val"))) == 4


def test_card_names_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    spec = replace(SPEC, train_images=1, val_images=1)
    paths = ensure_crowd(tmp_path / "crowd", spec, workers=1)
    image = paths.images / f"{image_id(spec, 1, 0)}.jpg"
    image.write_bytes(b"no image")
    with pytest.raises(DataError, match=image.name):
        crowd_card(paths, spec)
