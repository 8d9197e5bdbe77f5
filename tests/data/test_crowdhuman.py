"""Reading CrowdHuman's ``.odgt``."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cis_seg.data.crowdhuman import CrowdHumanDataset
from cis_seg.data.crowdhuman_coco import to_coco
from cis_seg.errors import ConfigError, DataError

Records = list[dict[str, Any]]
WriteOdgt = Callable[[Records], tuple[Path, Path]]


def test_visible_boxes_are_clipped_and_ignored_ones_excluded(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    data = CrowdHumanDataset(*write_odgt(odgt_records))
    assert (len(data), data.image_ids, data.class_names, data.category_ids) == (2, [0, 1], ("person",), (1,))
    sample = data.sample(0)
    assert sample.path.name == "27,a.jpg"
    np.testing.assert_array_equal(sample.boxes, [[0, 3, 8, 15], [12, 5, 20, 15]])
    assert sample.boxes.dtype == np.float32
    assert sample.labels.tolist() == [0, 0]
    assert sample.masks is None
    np.testing.assert_array_equal(data.records.ignore_boxes, [[20, 5, 24, 9], [25, 0, 30, 5]])
    assert data.records.ignore_starts.tolist() == [0, 2, 2]


def test_full_boxes_by_option(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    data = CrowdHumanDataset(*write_odgt(odgt_records), boxes="full")
    np.testing.assert_array_equal(data.sample(0).boxes, [[0, 2, 10, 24], [12, 5, 20, 20]])


def test_records_without_people_are_kept_on_demand(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    data = CrowdHumanDataset(*write_odgt(odgt_records), keep_empty=True)
    assert data.image_ids == [0, 1, 2]
    assert data.sample(2).boxes.shape == (0, 4)


def test_box_outside_its_image_is_dropped_and_reported(
    odgt_records: Records, write_odgt: WriteOdgt, caplog: pytest.LogCaptureFixture
) -> None:
    odgt_records[1]["gtboxes"][0]["vbox"] = [100, 1, 10, 10]
    with caplog.at_level(logging.INFO, logger="cis_seg"):
        data = CrowdHumanDataset(*write_odgt(odgt_records))
    assert data.image_ids == [0]
    assert "1 boxes outside their image" in caplog.text
    assert "left out 1 images without a person to train on" in caplog.text


def test_empty_boxes_are_counted(odgt_records: Records, write_odgt: WriteOdgt, caplog: pytest.LogCaptureFixture) -> None:
    odgt_records[0]["gtboxes"][0]["vbox"] = [3, 3, 0, 5]
    with caplog.at_level(logging.WARNING, logger="cis_seg"):
        data = CrowdHumanDataset(*write_odgt(odgt_records))
    assert len(data.sample(0).boxes) == 1
    assert "1 boxes without width or height" in caplog.text


@pytest.mark.parametrize(("name", "records", "people", "ignored"), [("sample", 5, 41, 2), ("truncated", 2, None, None)])
def test_real_records(
    shared_data: Path, tmp_path: Path, write_photo: Callable[..., Path], name: str, records: int, people: int | None, ignored: int | None
) -> None:
    source = shared_data / f"crowdhuman_odgt/annotation_{name}.odgt"
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    size = max(max(x + w, y + h) for line in lines for x, y, w, h in (box["vbox"] for box in line["gtboxes"]))  # nobody is outside
    for line in lines:
        write_photo(tmp_path / f"{line['ID']}.jpg", height=size, width=size)
    data = CrowdHumanDataset(source, tmp_path)
    assert len(data) == records
    persons = [[box for box in line["gtboxes"] if box["tag"] == "person"] for line in lines]
    assert people is None or sum(map(len, persons)) == people == len(data.records.boxes)
    assert ignored is None or len(data.records.ignore_boxes) == ignored
    for index, boxes in enumerate(persons):
        visible = np.array([box["vbox"] for box in boxes])
        expected = np.concatenate([visible[:, :2], visible[:, :2] + visible[:, 2:]], axis=1).clip(0, size)
        np.testing.assert_array_equal(data.sample(index).boxes, expected)


def test_head_boxes_and_heads_to_ignore(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    first, second = odgt_records[0]["gtboxes"][:2]
    first.update(hbox=[3, 4, 5, 6], head_attr={"ignore": 0})
    second.update(hbox=[13, 5, 3, 3])  # its head_attr says ignore: that matters for heads alone
    data = CrowdHumanDataset(*write_odgt(odgt_records), boxes="head", keep_empty=True)
    np.testing.assert_array_equal(data.sample(0).boxes, [[3, 4, 8, 10]])
    np.testing.assert_array_equal(data.sample(0).ignore_boxes, [[13, 5, 16, 8], [20, 5, 24, 9], [25, 0, 30, 5]])


def test_key_order_and_absent_keys_change_nothing(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    plain = CrowdHumanDataset(*write_odgt(odgt_records))
    for record in odgt_records:
        record["gtboxes"] = [dict(reversed(entry.items())) for entry in record["gtboxes"]]
    del odgt_records[0]["gtboxes"][0]["extra"]
    odgt_records[0]["gtboxes"][1]["extra"] = {"box_id": 1, "occ": 1, "unsure": 0}
    odgt_records[0]["gtboxes"][1]["head_attr"] = {}
    path, images = write_odgt([dict(reversed(record.items())) for record in odgt_records])
    turned = CrowdHumanDataset(path, images)
    for name in ("boxes", "ignore_boxes", "sizes", "image_ids"):
        np.testing.assert_array_equal(getattr(turned.records, name), getattr(plain.records, name))


def test_blank_lines_keep_the_numbers_of_the_others(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    path, images = write_odgt(odgt_records)
    path.write_text(path.read_text().replace("\n", "\n\n"))
    assert CrowdHumanDataset(path, images).image_ids == [0, 2]  # the line, counted from 0


@pytest.mark.parametrize("ignore_regions", [True, False])
def test_samples_carry_ignore_regions_if_enabled(odgt_records: Records, write_odgt: WriteOdgt, ignore_regions: bool) -> None:
    odgt_records[0]["gtboxes"][3]["vbox"] = [25, -3, 50, 8]  # leaves the image on three sides
    data = CrowdHumanDataset(*write_odgt(odgt_records), ignore_regions=ignore_regions)
    expected = [[20, 5, 24, 9], [25, 0, 32, 5]] if ignore_regions else np.zeros((0, 4))
    np.testing.assert_array_equal(data.sample(0).ignore_boxes, expected)
    assert data.sample(1).ignore_boxes.shape == (0, 4)


def _many(records: Records, count: int) -> Records:
    """``count`` records, each with a person."""
    return [{**records[1], "ID": f"30,{i}"} for i in range(count)]


def test_few_faulty_records_are_skipped_and_listed(odgt_records: Records, write_odgt: WriteOdgt, caplog: pytest.LogCaptureFixture) -> None:
    path, images = write_odgt([*_many(odgt_records, 30), {"ID": "30,empty", "gtboxes": []}])
    (images / "30,4.jpg").unlink()
    (images / "30,5.jpg").write_bytes(b"no image")
    lines = path.read_text().splitlines()
    lines[7] = lines[7][:40]
    lines[9] = json.dumps({**odgt_records[1], "ID": "30,9", "gtboxes": [{**odgt_records[1]["gtboxes"][0], "vbox": [1, 1, -4, 3]}]})
    path.write_text("\n".join(lines))
    with caplog.at_level(logging.WARNING, logger="cis_seg"):
        data = CrowdHumanDataset(path, images)
    assert data.image_ids == [i for i in range(30) if i not in (4, 5, 7, 9)]
    listed = {(fault.kind, fault.where.rpartition(" ")[2]) for fault in data.faults}
    assert listed == {
        ("missing or unreadable images", "5"),
        ("missing or unreadable images", "6"),
        ("unusable lines", "8"),
        ("unusable lines", "10"),
        ("empty records", "31"),
    }
    for words in ("2 missing or unreadable images of 31", "30,4.jpg is missing", "cannot be read as an image", "negative width"):
        assert words in caplog.text


def test_many_faulty_records_stop_the_run(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    path, images = write_odgt(_many(odgt_records, 30))
    for i in range(10):  # one of CrowdHuman's three archives
        (images / f"30,{i}.jpg").unlink()
    with pytest.raises(DataError, match=r"10 missing or unreadable images of 30[\s\S]*30,2.jpg[\s\S]*and 7 more[\s\S]*complete the"):
        CrowdHumanDataset(path, images)
    assert len(CrowdHumanDataset(path, images, max_faulty=0.34)) == 20
    with pytest.raises(ConfigError, match=r"data\.max_faulty[\s\S]*0 to 1"):
        CrowdHumanDataset(path, images, max_faulty=2)


def _entry(**change: Any) -> Callable[[Records], None]:
    return lambda records: records[1]["gtboxes"][0].update(change)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_entry(vbox=[1, 1, -4, 10]), ["vbox of entry 0 of image '27,b'", "negative width"]),
        (_entry(vbox=None), ["vbox of entry 0 of image '27,b'", "four finite numbers"]),
        (lambda records: records[1].pop("gtboxes"), ["record has no boxes"]),
        (lambda records: records[1].update(gtboxes=[3]), ["record has no boxes"]),
        (lambda records: records[1].update(ID="../27,a"), ["'../27,a.jpg'", "inside the image folder", "write '27,a.jpg' in its place"]),
        (lambda records: records[1].update(ID=None), ["image None", "inside the image folder"]),
        (lambda records: records[1].update(ID="27,a"), ["27,a.jpg is listed twice"]),
        (_entry(tag=None), ["entry 0 of image '27,b'", "no tag"]),
        (_entry(extra={"ignore": "yes"}), ["entry 0 of image '27,b'", "no usable extra"]),
        (_entry(extra=[1]), ["entry 0 of image '27,b'", "no usable extra"]),
        (_entry(vbox=[1, 1, 10**400, 10]), ["vbox of entry 0", "within 100000 pixels"]),
        (_entry(vbox=[1, 1, True, 10]), ["vbox of entry 0", "four finite numbers"]),
    ],
)
def test_invalid_line_is_rejected_with_its_number(
    odgt_records: Records, write_odgt: WriteOdgt, damage: Callable[[Records], None], words: list[str]
) -> None:
    damage(odgt_records)
    path, images = write_odgt(odgt_records)
    with pytest.raises(DataError) as refused:
        CrowdHumanDataset(path, images)
    for word in [*words, f"{path}, line 2"]:
        assert word in str(refused.value)


def test_files_that_are_missing_or_damaged(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    path, images = write_odgt(odgt_records)
    with pytest.raises(DataError, match=r"annotation file does not exist[\s\S]*annotation_train.odgt"):
        CrowdHumanDataset(path.with_name("x.odgt"), images)
    with pytest.raises(DataError, match="image folder does not exist"):
        CrowdHumanDataset(path, images.with_name("Bilder"))
    path.write_text(path.read_text()[:-8])
    with pytest.raises(DataError, match=r"not valid JSON[\s\S]*line 3[\s\S]*column"):
        CrowdHumanDataset(path, images)
    path.write_text(json.dumps(odgt_records[2]))
    with pytest.raises(DataError, match=r"1 empty records of 1[\s\S]*keep_empty=true"):
        CrowdHumanDataset(path, images)
    with pytest.raises(DataError, match="no image is left"):
        CrowdHumanDataset(path, images, max_faulty=1)


def _ids_of_files(records: Records) -> None:
    for record in records:
        record["ID"] += ".jpg"


def _tags(records: Records) -> None:
    for entry in records[0]["gtboxes"]:
        entry["tag"] = {"person": "Person ", "mask": "Mask"}[entry["tag"]]


def _quoted(records: Records) -> None:
    records[0]["gtboxes"][0].update(vbox=["-1", "3.0", 9, "12"], extra={"ignore": "0"})


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (_ids_of_files, None),
        (_tags, None),
        (_quoted, "numbers written in quotes or as floats were read as numbers: 1 ignore, 1 vbox"),
    ],
)
def test_other_spellings_read_the_same(
    odgt_records: Records, write_odgt: WriteOdgt, caplog: pytest.LogCaptureFixture, change: Callable[[Records], None], note: str | None
) -> None:
    path, images = write_odgt(odgt_records)
    plain = CrowdHumanDataset(path, images)
    change(odgt_records)
    path.write_text("".join(json.dumps(record) + "\n" for record in odgt_records))
    changed = CrowdHumanDataset(path, images)
    for name in ("boxes", "ignore_boxes", "sizes", "image_ids"):
        np.testing.assert_array_equal(getattr(changed.records, name), getattr(plain.records, name))
    assert [r.getMessage() for r in caplog.records if "left out" not in r.getMessage()] == ([f"{path}: {note}"] if note else [])


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("start", ["", "\ufeff", "\r\n "])
def test_one_array_reads_like_lines(odgt_records: Records, write_odgt: WriteOdgt, indent: int | None, start: str) -> None:
    path, images = write_odgt(odgt_records)
    path.write_text(start + json.dumps(odgt_records, indent=indent), newline="\r\n")
    assert CrowdHumanDataset(path, images).image_ids == [0, 1]
    odgt_records[1]["gtboxes"] = 3
    path.write_text(json.dumps(odgt_records))
    assert CrowdHumanDataset(path, images, max_faulty=0.5).faults[0].where == f"{path}, record 2"


def test_lines_with_a_byte_order_mark_and_carriage_returns(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    path, images = write_odgt(odgt_records)
    path.write_text("\ufeff" + path.read_text(), newline="\r\n")
    assert CrowdHumanDataset(path, images).image_ids == [0, 1]


def test_an_id_may_be_a_number(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    odgt_records[0]["ID"] = 273271
    assert CrowdHumanDataset(*write_odgt(odgt_records)).sample(0).path.name == "273271.jpg"


def test_missing_boxes_name_the_option_of_those_that_exist(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    for record in odgt_records:
        for entry in record["gtboxes"]:
            del entry["vbox"], entry["hbox"]
    files = write_odgt(odgt_records)
    with pytest.raises(DataError, match=r"'27,a' has no vbox[\s\S]*\n  what to do: use other boxes of the file: data.boxes=full;"):
        CrowdHumanDataset(*files)
    assert len(CrowdHumanDataset(*files, boxes="full")) == 2


def test_unknown_tags_are_mentioned(odgt_records: Records, write_odgt: WriteOdgt, caplog: pytest.LogCaptureFixture) -> None:
    odgt_records[1]["gtboxes"][0]["tag"] = "pedestrian"
    assert CrowdHumanDataset(*write_odgt(odgt_records)).image_ids == [0]
    assert "entries with the tag 'pedestrian' are ignore regions" in caplog.text


def test_corners_are_refused(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    boxes = [[20, 10, 30, 22], [2, 3, 8, 15], [25, 2, 31, 23], [12, 1, 18, 20]]
    records = [{"ID": f"27,{i}", "gtboxes": [{**odgt_records[1]["gtboxes"][0], "vbox": box} for box in boxes]} for i in range(6)]
    with pytest.raises(DataError, match="look like corners"):
        CrowdHumanDataset(*write_odgt(records))


def test_repeated_boxes_are_reported(odgt_records: Records, write_odgt: WriteOdgt, caplog: pytest.LogCaptureFixture) -> None:
    odgt_records[1]["gtboxes"] *= 2
    path, images = write_odgt(odgt_records)
    CrowdHumanDataset(path, images)
    (note,) = [r.getMessage() for r in caplog.records if "left out" not in r.getMessage()]
    assert note.startswith(f"{path}: 1 annotations repeat the box and class of another one")


def test_a_file_of_another_kind_is_named(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    path, images = write_odgt(odgt_records)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(DataError, match=r"has no records[\s\S]*Git LFS pointer[\s\S]*git lfs pull"):
        CrowdHumanDataset(path, images)


@pytest.mark.parametrize("suffix", [".png", ".JPG"])
def test_images_with_another_extension_are_found(
    odgt_records: Records, write_odgt: WriteOdgt, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    path, images = write_odgt(odgt_records)
    for image in images.glob("*.jpg"):
        image.rename(image.with_suffix(suffix))
    assert CrowdHumanDataset(path, images).sample(0).path.name == f"27,a{suffix}"
    assert f"2 images have another extension than .jpg, for example 27,a{suffix}" in caplog.text
    assert [image["file_name"] for image in to_coco(path, images)[0]["images"]] == [f"27,{name}{suffix}" for name in "abc"]
