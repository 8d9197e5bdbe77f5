"""The data modules: layouts, loaders, and the same batches whatever reads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch

from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.errors import ConfigError, DataError
from cis_seg.structures import Batch
from data_modules import coco_data, crowdhuman_data

Content = dict[str, Any]
SIZES: dict[str, Any] = {"train_sizes": [24, 30], "train_max_size": 64, "test_size": 24, "test_max_size": 64, "batch_size": 2}


@pytest.fixture
def coco_root(tmp_path: Path, coco_content: Content, write_coco: Callable[..., Any]) -> Path:
    write_coco(coco_content, "train")
    write_coco(coco_content, "val")
    return tmp_path


@pytest.fixture
def crowd_root(tmp_path: Path, odgt_records: list[Content], write_odgt: Callable[..., Any]) -> Path:
    """CrowdHuman's layout with masks beside it, as the generated crowd has it."""
    write_odgt(odgt_records)
    images = [{"id": 50 + i, "file_name": f"{record['ID']}.jpg", "height": 24, "width": 32} for i, record in enumerate(odgt_records)]
    polygon = [[12, 5, 20, 5, 20, 15, 12, 15]]
    person = {"id": 1, "image_id": 50, "category_id": 1, "bbox": [12, 5, 8, 10], "iscrowd": 0, "segmentation": polygon}
    for name, chosen in (("train", images[:2]), ("val", images)):
        content = {"images": chosen, "annotations": [person], "categories": [{"id": 1, "name": "person"}]}
        (tmp_path / f"masks_{name}.json").write_text(json.dumps(content))
    return tmp_path


def _same(first: Batch, second: Batch) -> bool:
    boxes = zip(first.targets, second.targets, strict=True)
    return (
        torch.equal(first.pixels, second.pixels)
        and torch.equal(first.clean_pixels, second.clean_pixels)
        and (first.image_ids, first.positions) == (second.image_ids, second.positions)
        and all(torch.equal(a.boxes, b.boxes) for a, b in boxes)
    )


def _first(data: Any, count: int) -> list[Batch]:
    return list(islice(data.train_dataloader(), count))


def test_coco_by_its_default_names(coco_root: Path) -> None:
    data = coco_data(coco_root, categories=["person"], **SIZES)
    data.setup("fit")
    assert data.train_dataset.image_ids == [7, 3]
    assert data.val_dataset.image_ids == [7, 3, 9]  # every image is scored
    assert (data.class_names, data.category_ids) == (("person",), (5,))
    assert data.val_ground_truths == [coco_root / "annotations/instances_val2017.json"]
    (loader,) = data.val_dataloader()
    assert [batch.image_ids for batch in loader] == [(7,), (3,), (9,)]
    batch = _first(data, 1)[0]
    assert batch.positions == (0, 1)
    assert batch.targets[0].masks is None


def test_the_training_images_as_a_second_scored_set(coco_root: Path) -> None:
    data = coco_data(coco_root, categories=["person"], score_train=True, **SIZES)
    held_out, trained = data.val_dataloader()
    assert [batch.image_ids for batch in trained] == [(7,), (3,)]
    assert len(held_out) == 3
    assert data.val_ground_truths == [coco_root / f"annotations/instances_{part}2017.json" for part in ("val", "train")]


def test_masks_are_loaded_only_for_training(coco_root: Path) -> None:
    data = coco_data(coco_root, load_masks=True, score_train=True, **SIZES)
    batch = _first(data, 1)[0]
    for target, size in zip(batch.targets, batch.image_sizes, strict=True):
        assert target.masks is not None
        assert target.masks.shape == (len(target.boxes), *size)
    assert all(target.masks is None for loader in data.val_dataloader() for batch in loader for target in batch.targets)


@pytest.mark.parametrize("photometric", ["none", "strong"])
def test_workers_change_nothing(coco_root: Path, photometric: Any) -> None:
    alone, helped = (coco_data(coco_root, photometric=photometric, workers=w, seed=1, **SIZES) for w in (0, 2))
    assert all(_same(a, b) for a, b in zip(_first(alone, 5), _first(helped, 5), strict=True))


@pytest.mark.parametrize(("world_size", "accumulate"), [(1, 2), (2, 1), (2, 2)])
def test_ranks_and_accumulation_see_the_batches_of_one_process(coco_root: Path, world_size: int, accumulate: int) -> None:
    def images(world_size: int, accumulate: int, rank: int) -> dict[int, torch.Tensor]:
        data = coco_data(coco_root, accumulate=accumulate, **{**SIZES, "batch_size": 4})
        trainer = SimpleNamespace(global_rank=rank, world_size=world_size, global_step=3, accumulate_grad_batches=accumulate)
        data.trainer = trainer  # type: ignore[assignment]
        found: dict[int, torch.Tensor] = {}
        for batch in _first(data, 2 * accumulate):
            for position, pixels, (height, width) in zip(batch.positions, batch.pixels, batch.image_sizes, strict=True):
                found[position] = pixels[:, :height, :width]
        return found

    whole = images(1, 1, 0)
    split = {position: pixels for rank in range(world_size) for position, pixels in images(world_size, accumulate, rank).items()}
    assert sorted(whole) == sorted(split) == list(range(12, 20))
    assert all(torch.equal(whole[position], split[position]) for position in whole)


def test_every_rank_scores_its_own_images(coco_root: Path) -> None:
    found = []
    for rank in (0, 1):
        data = coco_data(coco_root, **SIZES)
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2)  # type: ignore[assignment]
        found.append([batch.image_ids[0] for batch in data.val_dataloader()[0]])
    assert found == [[7, 9], [3]]


class _Recorder(lightning.LightningModule):
    """Trains nothing and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained: list[Batch] = []
        self.scored: list[tuple[int, int]] = []

    def training_step(self, batch: Batch) -> torch.Tensor:
        self.trained.append(batch)
        return self.weight * batch.pixels.float().mean()

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.scored.append((dataloader_idx, batch.image_ids[0]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def _fit(root: Path, folder: Path, steps: int, checkpoint: Path | None = None, workers: int = 0) -> _Recorder:
    module = _Recorder()
    data = coco_data(root, accumulate=2, score_train=True, photometric="light", workers=workers, seed=4, **SIZES)
    trainer = lightning.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accumulate_grad_batches=2,
        val_check_interval=8,
        check_val_every_n_epoch=None,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        accelerator="cpu",
        devices=1,
        default_root_dir=folder,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=False)
    trainer.save_checkpoint(folder / f"{steps}.ckpt")
    return module


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_training_sees_the_same_batches(coco_root: Path, tmp_path: Path, workers: int) -> None:
    whole = _fit(coco_root, tmp_path, 7)
    begun = _fit(coco_root, tmp_path, 3, workers=workers)
    ended = _fit(coco_root, tmp_path, 7, tmp_path / "3.ckpt", workers=workers)
    assert [batch.positions for batch in whole.trained] == [(position,) for position in range(14)]
    together = begun.trained + ended.trained
    assert all(_same(a, b) for a, b in zip(whole.trained, together, strict=True))
    assert torch.equal(whole.weight, ended.weight)
    assert whole.scored == [(0, 7), (0, 3), (0, 9), (1, 7), (1, 3)]


def test_crowdhuman_trains_from_boxes_and_scores_masks(crowd_root: Path) -> None:
    data = crowdhuman_data(crowd_root, score_train=True, **SIZES)
    data.setup("fit")
    assert data.train_dataset.source == crowd_root / "annotation_train.odgt"
    assert data.train_dataset.image_ids == [0, 1]
    assert data.val_dataset.image_ids == [50, 51, 52]
    assert data.scored_train_dataset.image_ids == [50]
    assert data.val_ground_truths == [crowd_root / "masks_val.json", crowd_root / "masks_train.json"]
    assert (data.class_names, data.category_ids) == (("person",), (1,))
    assert {i for batch in _first(data, 2) for i in batch.image_ids} == {0, 1}


def test_crowdhuman_with_masks(crowd_root: Path) -> None:
    data = crowdhuman_data(crowd_root, load_masks=True, **SIZES)
    assert data.train_dataset.image_ids == [50]
    masks = _first(data, 1)[0].targets[0].masks
    assert masks is not None
    assert masks.any()
    with pytest.raises(ConfigError, match="full boxes"):
        crowdhuman_data(crowd_root, load_masks=True, boxes="full", **SIZES)


def test_crowdhuman_with_some_masks_in_another_file(crowd_root: Path) -> None:
    content = json.loads((crowd_root / "masks_train.json").read_text())
    content["annotations"][0]["segmentation"] = []
    (crowd_root / "some.json").write_text(json.dumps(content))
    data = crowdhuman_data(crowd_root, load_masks=True, optional_masks=True, annotations="some.json", score_train=True, **SIZES)
    assert data.train_dataset.source == crowd_root / "some.json"
    assert data.scored_train_dataset.source == crowd_root / "masks_train.json"
    target = _first(data, 1)[0].targets[0]
    assert target.masks is not None
    assert target.mask_scores is not None
    assert target.mask_scores.tolist() == target.masks.flatten(1).any(dim=1).float().tolist()
    assert 0.0 in target.mask_scores.tolist()


def test_other_files_may_lie_anywhere(crowd_root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("CIS, with = odd [name]")
    shutil.move(crowd_root / "masks_val.json", elsewhere / "CIS.json")
    data = crowdhuman_data(crowd_root, val_annotations=str(elsewhere / "CIS.json"), **SIZES)
    assert len(data.val_dataset) == 3
    with pytest.raises(DataError, match=r"no COCO json with masks[\s\S]*masks_train\.json[\s\S]*CIS\.json"):
        crowdhuman_data(crowd_root, **SIZES).setup("validate")


def test_missing_root_describes_the_layout(coco_root: Path) -> None:
    with pytest.raises(DataError, match=r"no such data folder[\s\S]*annotations/instances_train2017\.json, train2017[\s\S]*val2017/"):
        coco_data(coco_root / "nowhere").setup("fit")
    with pytest.raises(DataError, match=r"annotation_train\.odgt, Images/<ID>\.jpg"):
        crowdhuman_data(Path("/nowhere")).setup("fit")


def test_sets_with_different_categories_are_refused(coco_root: Path) -> None:
    path = coco_root / "annotations/instances_train2017.json"
    path.write_text(path.read_text().replace('"dog"', '"cat"'))
    with pytest.raises(DataError, match=r"different categories[\s\S]*dog[\s\S]*cat[\s\S]*data.categories=\["):
        coco_data(coco_root, **SIZES).setup("fit")
    coco_data(coco_root, categories=["person"], **SIZES).setup("fit")


def test_categories_that_differ_in_case_or_spaces_are_named(coco_root: Path) -> None:
    path = coco_root / "annotations/instances_train2017.json"
    path.write_text(path.read_text().replace('"person"', '"Person "'))
    with pytest.raises(DataError, match=r"different categories[\s\S]*'Person ' and 'person' differ only in case or spaces"):
        coco_data(coco_root, **SIZES).setup("fit")


def _cut_short(root: Path, content: Content) -> None:
    path = root / "val2017" / "3.jpg"
    path.write_bytes(path.read_bytes()[:-200])


def _other_size(root: Path, content: Content) -> None:
    content["images"][1]["width"] = 33


def _missing(root: Path, content: Content) -> None:
    (root / "val2017" / "3.jpg").unlink()


def _annotated(**change: Any) -> Callable[[Path, Content], None]:
    return lambda root, content: content["annotations"][0].update(change)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root, content: content["annotations"].clear(), ["images to score have no annotations", "data.val_annotations"]),
        (_annotated(area=None), ["1 annotations have no area", "first: annotation 1", "eval.area=mask"]),
        (_annotated(area=float("nan")), ["annotation 1 of image 7", "no usable area"]),
        (_annotated(segmentation=[["x"] * 6]), ["annotation 1 of image 7", "no usable mask"]),
        (_cut_short, ["1 of 3 images to score cannot be used", "3.jpg cannot be read"]),
        (_other_size, ["1 of 3 images to score cannot be used", "33 x 24 pixels", "found: 32 x 24"]),
        (_missing, ["1 of 3 images to score cannot be used", "image 3.jpg is missing"]),
    ],
)
def test_scored_data_is_checked_before_the_first_step(
    coco_root: Path, coco_content: Content, damage: Callable[[Path, Content], None], words: list[str]
) -> None:
    for annotation in coco_content["annotations"]:
        annotation["area"] = 9
    path = coco_root / "annotations/instances_val2017.json"
    path.write_text(json.dumps(coco_content))
    coco_data(coco_root, **SIZES).check_scored("published")
    damage(coco_root, coco_content)
    path.write_text(json.dumps(coco_content))
    with pytest.raises(DataError) as refused:
        coco_data(coco_root, **SIZES).check_scored("published")
    for word in [*words, str(path)]:
        assert word in str(refused.value)


def test_areas_are_not_needed_if_those_of_the_masks_are_scored(coco_root: Path) -> None:
    coco_data(coco_root, **SIZES).check_scored("mask")


@pytest.mark.parametrize(
    ("cleared", "words"),
    [
        (5, "no annotation has a mask, so only boxes are scored: segm/AP and every other score of masks stays empty"),
        (1, "1 of 5 annotations have no mask; they count for boxes and are ignore regions for masks"),
    ],
)
def test_scored_set_without_masks_is_reported_before_the_first_step(
    coco_root: Path, coco_content: Content, caplog: pytest.LogCaptureFixture, cleared: int, words: str
) -> None:
    for annotation in coco_content["annotations"][:cleared]:
        annotation["segmentation"] = []
    path = coco_root / "annotations/instances_val2017.json"
    path.write_text(json.dumps(coco_content))
    coco_data(coco_root, **SIZES).setup("fit")
    GroundTruth(path)  # the first validation
    assert [record.getMessage() for record in caplog.records if "mask" in record.getMessage()] == [f"{path}: {words}"]


def test_scored_sets_with_different_category_ids_are_refused(coco_root: Path) -> None:
    path = coco_root / "annotations/instances_train2017.json"
    path.write_text(path.read_text().replace('"id": 5, "name"', '"id": 6, "name"').replace('"category_id": 5', '"category_id": 6'))
    coco_data(coco_root, **SIZES).setup("fit")
    with pytest.raises(DataError, match=r"number their categories differently[\s\S]*\(5, 90\)[\s\S]*\(6, 90\)"):
        coco_data(coco_root, score_train=True, **SIZES).setup("fit")


@pytest.mark.parametrize("workers", [0, 1])
def test_corrupt_image_stops_training_with_one_readable_message(coco_root: Path, workers: int) -> None:
    path = coco_root / "train2017/3.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    data = coco_data(coco_root, workers=workers, **SIZES)
    with pytest.raises(DataError) as refused:
        _first(data, 2)
    message = str(refused.value)
    assert message.startswith("too many images cannot be read: 1 of 2\n")
    assert "3.jpg cannot be read as an image\n" in message
    assert "Traceback" not in message
    assert str(path) in message


def test_options_that_cannot_work_are_refused(coco_root: Path) -> None:
    with pytest.raises(ConfigError, match="a multiple of 1 devices x 2"):
        coco_data(coco_root, accumulate=2, **{**SIZES, "batch_size": 3}).train_dataloader()
    data = coco_data(coco_root, accumulate=2, **SIZES)
    data.trainer = SimpleNamespace(accumulate_grad_batches=1)  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="different gradient accumulation"):
        data.train_dataloader()
    with pytest.raises(ConfigError, match="the range of the training sizes is empty"):
        coco_data(coco_root, train_size_range=[3, 2])


def test_a_range_of_sizes(coco_root: Path) -> None:
    data = coco_data(coco_root, train_size_range=[24, 27], **SIZES)
    heights = {height for batch in _first(data, 30) for height, _ in batch.image_sizes}
    assert heights == {24, 25, 26, 27}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_images_of_the_first_steps_are_half_as_large(coco_root: Path, accumulate: int) -> None:
    data = coco_data(coco_root, half_size_steps=3, accumulate=accumulate, **{**SIZES, "train_sizes": [30]})
    heights = [height for batch in _first(data, 5 * accumulate) for height, _ in batch.image_sizes]
    assert heights == [15] * 6 + [30] * 4  # steps of two images


def test_real_coco_layout(shared_data: Path) -> None:
    data = coco_data(shared_data / "coco_mini", categories=["person"], score_train=True, batch_size=2)
    data.setup("fit")
    assert (len(data.train_dataset), len(data.val_dataset), len(data.scored_train_dataset)) == (24, 35, 24)
    assert data.class_names == ("person",)
    batch = _first(data, 1)[0]
    assert batch.pixels.shape[0] == 2
    assert all(size % 32 == 0 for size in batch.pixels.shape[2:])
    assert all(640 <= min(size) <= 800 for size in batch.image_sizes)
