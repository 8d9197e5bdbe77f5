"""Reading COCO jsons: what is kept, what is refused and in which words."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from cis_seg.data.coco import CocoDataset
from cis_seg.data.images import read_image
from cis_seg.errors import DataError

Content = dict[str, Any]
WriteCoco = Callable[..., tuple[Path, Path]]


def test_boxes_are_xyxy_and_clipped_and_crowds_are_excluded(coco_content: Content, write_coco: WriteCoco) -> None:
    data = CocoDataset(*write_coco(coco_content), categories=["person"])
    assert data.image_ids == [7, 3]
    sample = data.sample(0)
    np.testing.assert_array_equal(sample.boxes, np.array([[2, 3, 12, 15], [20, 10, 32, 24]], dtype=np.float32))
    assert sample.labels.tolist() == [0, 0]
    assert sample.image.shape == (24, 32, 3)
    assert sample.image.dtype == np.uint8
    assert sample.original_size == (24, 32)
    assert (sample.image_id, sample.path.name, sample.masks) == (7, "7.jpg", None)
    np.testing.assert_array_equal(data.records.ignore_boxes, [[0, 0, 30, 20]])
    assert data.records.ignore_starts.tolist() == [0, 1, 1]


def test_labels_follow_the_choice_or_the_category_ids(coco_content: Content, write_coco: WriteCoco) -> None:
    files = write_coco(coco_content)
    everything = CocoDataset(*files)
    assert (everything.class_names, everything.category_ids) == (("person", "dog"), (5, 90))
    assert everything.sample(1).labels.tolist() == [1, 0]
    turned = CocoDataset(*files, categories=["dog", "person"])
    assert (turned.class_names, turned.category_ids) == (("dog", "person"), (90, 5))
    assert turned.sample(1).labels.tolist() == [0, 1]


def test_images_without_annotations_are_kept_on_demand(coco_content: Content, write_coco: WriteCoco) -> None:
    files = write_coco(coco_content)
    assert CocoDataset(*files, categories=["dog"]).image_ids == [3]
    kept = CocoDataset(*files, categories=["dog"], keep_empty=True)
    assert kept.image_ids == [7, 3, 9]
    assert kept.sample(2).boxes.shape == (0, 4)
    assert kept.sample(2).labels.shape == (0,)


def test_masks_in_every_form_decode_to_the_same(coco_content: Content, write_coco: WriteCoco) -> None:
    square = np.zeros((24, 32), dtype=np.uint8, order="F")
    square[3:15, 2:12] = 1
    compressed = coco_mask.encode(square)
    flat = square.ravel(order="F")
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    counts = np.diff(np.concatenate([[0], changes])).tolist()
    box = {"image_id": 7, "category_id": 5, "bbox": [2, 3, 10, 12], "iscrowd": 0}
    coco_content["annotations"] = [
        {"id": 1, **box, "segmentation": [[2, 3, 12, 3, 12, 15, 2, 15], [1, 1]]},  # the second part has no area
        {"id": 2, **box, "segmentation": {"size": [24, 32], "counts": counts}},
        {"id": 3, **box, "segmentation": {"size": [24, 32], "counts": compressed["counts"].decode()}},
    ]
    masks = CocoDataset(*write_coco(coco_content), load_masks=True).sample(0).masks
    assert masks is not None
    for mask in masks:
        np.testing.assert_array_equal(coco_mask.decode(mask), square)


def test_the_index_holds_no_python_objects(shared_data: Path) -> None:
    root = shared_data / "coco_mini"
    data = CocoDataset(root / "annotations/instances_val2017.json", root / "val2017", load_masks=True)
    arrays = [value for value in vars(data.records).values() if isinstance(value, np.ndarray)]
    assert len(arrays) == 7
    assert all(array.dtype != object for array in arrays)
    assert data.records.segmentations is not None
    assert all(isinstance(value, np.ndarray) for value in vars(data.records.segmentations).values())
    assert pickle.loads(pickle.dumps(data)).sample(0).image_id == data.image_ids[0]


def test_real_images_equal_pycocotools(shared_data: Path) -> None:
    root = shared_data / "coco_mini"
    source = root / "annotations/instances_train2017.json"
    truth, data = COCO(str(source)), CocoDataset(source, root / "train2017", load_masks=True)
    total = 0
    for index, image_id in enumerate(data.image_ids):
        expected = truth.loadAnns(truth.getAnnIds(imgIds=[image_id], iscrowd=False))
        sample = data.sample(index)
        assert sample.original_size == (truth.imgs[image_id]["height"], truth.imgs[image_id]["width"])
        boxes = np.array([a["bbox"] for a in expected])
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(sample.boxes, boxes, atol=0.51)  # a few leave the image by half a pixel
        assert [data.category_ids[label] for label in sample.labels] == [a["category_id"] for a in expected]
        assert sample.masks is not None
        for code, annotation in zip(sample.masks, expected, strict=True):
            np.testing.assert_array_equal(coco_mask.decode(code), truth.annToMask(annotation))
        total += len(expected)
    assert total == 311  # 316 annotations, 5 of them crowd regions


def test_empty_boxes_and_boxes_outside_are_counted_in_one_line(
    coco_content: Content, write_coco: WriteCoco, caplog: pytest.LogCaptureFixture
) -> None:
    coco_content["annotations"][0]["bbox"] = [2, 3, 0, 12]
    coco_content["annotations"][1]["bbox"] = [40, 3, 5, 12]
    with caplog.at_level(logging.WARNING, logger="cis_seg"):
        data = CocoDataset(*write_coco(coco_content), categories=["person"])
    assert data.image_ids == [3]
    assert len(caplog.records) == 1
    assert "1 boxes outside their image, 1 boxes without width or height" in caplog.text


@pytest.mark.parametrize(
    "mask",
    [
        None,
        [],
        [[1, 2, 3, 4]],
        {"counts": "abc"},
        {"size": [24, 32], "counts": [5, 5]},
        {"size": [9, 9], "counts": "0"},
    ],
)
def test_invalid_masks_matter_only_if_masks_are_loaded(coco_content: Content, write_coco: WriteCoco, mask: Any) -> None:
    coco_content["annotations"][0]["segmentation"] = mask
    files = write_coco(coco_content)
    assert len(CocoDataset(*files)) == 2
    with pytest.raises(DataError, match=r"annotation 1 of image 7 .* no usable mask"):
        CocoDataset(*files, load_masks=True)


def test_unknown_category_names_the_nearest(coco_content: Content, write_coco: WriteCoco) -> None:
    files = write_coco(coco_content)
    with pytest.raises(DataError, match=r"category 'persn' does not exist[\s\S]*person, dog[\s\S]*did you mean 'person'\?"):
        CocoDataset(*files, categories=["persn"])
    with pytest.raises(DataError, match="choose one of these names"):
        CocoDataset(*files, categories=["xyzzy"])
    for wanted in ([], ["dog", "dog"]):
        with pytest.raises(DataError, match="empty or names one twice"):
            CocoDataset(*files, categories=wanted)


def test_files_that_are_missing_or_something_else(coco_content: Content, write_coco: WriteCoco) -> None:
    path, images = write_coco(coco_content)
    with pytest.raises(DataError, match=r"annotation file does not exist[\s\S]*other.json[\s\S]*instances_train2017.json"):
        CocoDataset(path.with_name("other.json"), images)
    with pytest.raises(DataError, match=r"image folder does not exist[\s\S]*train2017/"):
        CocoDataset(path, images.with_name("nowhere"))
    text = path.read_text()
    path.write_text(text.replace('"images"', '\n"images', 1))
    with pytest.raises(DataError, match=r"not valid JSON[\s\S]*line 2 column"):
        CocoDataset(path, images)
    panoptic = '{"images": [], "annotations": [{"image_id": 3, "segments_info": []}], "categories": []}'
    for other in ("[]", '{"images": []}', '{"images": [1], "annotations": [], "categories": []}', panoptic):
        path.write_text(other)
        with pytest.raises(DataError, match="not a COCO instances file"):
            CocoDataset(path, images)
    path.write_text(json.dumps({**json.loads(text), "annotations": []}))
    with pytest.raises(DataError, match=r"no image is left[\s\S]*keep_empty=true"):
        CocoDataset(path, images)
    path.write_text(json.dumps({**json.loads(text), "annotations": [], "images": []}))
    with pytest.raises(DataError, match=r"no image is left[\s\S]*0 images[\s\S]*lists no image"):
        CocoDataset(path, images)
    crowds = [{**annotation, "iscrowd": 1} for annotation in coco_content["annotations"]]
    path.write_text(json.dumps({**json.loads(text), "annotations": crowds}))
    with pytest.raises(DataError, match=r"no image is left[\s\S]*ignore regions \(iscrowd 1\)[\s\S]*CVAT"):
        CocoDataset(path, images)


def test_missing_and_resized_images_are_named(coco_content: Content, write_coco: WriteCoco, write_photo: Callable[..., Path]) -> None:
    path, images = write_coco(coco_content)
    data = CocoDataset(path, images)
    write_photo(images / "3.jpg", height=32, width=24)
    with pytest.raises(DataError, match=r"the size of 3\.jpg does not match its annotations[\s\S]*32 x 24[\s\S]*24 x 32[\s\S]*exchanged"):
        data.sample(1)
    (images / "3.jpg").unlink()
    with pytest.raises(DataError, match=r"image 3\.jpg is missing[\s\S]*7\.jpg"):
        data.sample(1)
    (images / "7.jpg").unlink()
    with pytest.raises(DataError, match=r"image 7\.jpg is missing"):
        CocoDataset(path, images)


@pytest.mark.parametrize("kept", [0.5, 0.95, 0.0])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_images_are_detected(tmp_path: Path, write_photo: Callable[..., Path], suffix: str, kept: float) -> None:
    path = write_photo(tmp_path / f"cut.{suffix}", height=64, width=64)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=rf"cut\.{suffix} cannot be read[\s\S]*cut short"):
        read_image(path)


def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path) -> None:
    ramp = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    grey = np.repeat(ramp[:, :, None], 3, axis=2)
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    rgba = np.concatenate([grey[:, :, :2], 255 - grey[:, :, :1], ramp[:, :, None]], axis=2)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(grey).quantize(16).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), grey)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), grey)
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), rgba[:, :, :3])
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), grey)
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(DataError, match="floating-point"):
        read_image(tmp_path / "float.tiff")


def test_exif_orientation_is_not_applied(tmp_path: Path, write_photo: Callable[..., Path]) -> None:
    path = write_photo(tmp_path / "turned.jpg", height=24, width=32)
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to show"
    with Image.open(path) as image:
        image.save(path, exif=exif, quality=95)
    assert read_image(path).shape == (24, 32, 3)


def test_optional_masks_and_their_scores(coco_content: Content, write_coco: WriteCoco) -> None:
    noisy, bare = coco_content["annotations"][:2]
    noisy["score"] = 0.75
    del bare["segmentation"]
    bare["score"] = 0.9  # of nothing
    files = write_coco(coco_content)
    sample = CocoDataset(*files, load_masks=True, optional_masks=True).sample(0)
    assert sample.masks is not None
    assert [mask is None for mask in sample.masks] == [False, True]
    assert sample.mask_scores is not None
    assert sample.mask_scores.tolist() == [0.75, 0]
    true = CocoDataset(*files, load_masks=True, optional_masks=True).sample(1)
    assert true.mask_scores is not None
    assert true.mask_scores.tolist() == [1, 1]
    with pytest.raises(DataError, match=r"annotation 2 of image 7 .* has no usable mask"):
        CocoDataset(*files, load_masks=True)


@pytest.mark.parametrize("score", [1.5, -0.1, "0.5", None, True])
def test_unusable_scores_of_masks(coco_content: Content, write_coco: WriteCoco, score: Any) -> None:
    coco_content["annotations"][0]["score"] = score
    files = write_coco(coco_content)
    with pytest.raises(DataError, match=r"annotation 1 of image 7 has no usable score[\s\S]*a number from 0 to 1"):
        CocoDataset(*files, load_masks=True, optional_masks=True)
    assert CocoDataset(*files, load_masks=True).records.mask_scores is None, "scores are read only for supervision=mixed"
