"""Whole models against the reference's numbers: a checkpoint of its names is converted and must compute what the reference computed.

Tolerances are those of the reference's own record: losses 1e-4 relative, activations 1e-3, boxes 0.05 px, scores 1e-3, mask areas 0.5 %,
gradient norms 1e-3 relative (with a BiFPN 1 %, fusion weights 10 %, lateral biases not at all: they are mathematically 0).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from cis_seg.assign import assign, select_mask_samples
from cis_seg.config.schema import DetectionConfig
from cis_seg.inference.postprocess import Postprocess
from cis_seg.inference.predictor import load_trained
from cis_seg.losses.criterion import Criterion
from cis_seg.model.adelaidet.convert import convert_model
from cis_seg.model.adelaidet.files import convert_file
from cis_seg.model.adelaidet.weights import BIFPN_BODY, FPN_BODY, Weights, their_names
from cis_seg.model.condinst import CondInst
from cis_seg.ops.color import color_similarity, pooled_colors, valid_mask
from cis_seg.ops.masks import box_masks
from cis_seg.structures import Assignment, Batch, DensePredictions, MaskSamples
from cis_seg.training.module import CondInstModule
from golden_models import PADDED, deviation, entries, golden_batch, reference_state, sampled

pytestmark = pytest.mark.slow

MODELS = ("R50_FPN", "R101_BiFPN_DCN")
ALL_MODELS = ("R50_FPN", "R50_BiFPN", "R101_FPN", "R101_BiFPN", "R101_BiFPN_DCN")
LOSSES = {
    "loss_cls": "loss_fcos_cls",
    "loss_box": "loss_fcos_loc",
    "loss_ctr": "loss_fcos_ctr",
    "loss_proj": "loss_prj",
    "loss_pairwise": "loss_pairwise",
}
LEVELS = ("p3", "p4", "p5", "p6", "p7")


@dataclass(frozen=True)
class Reference:
    """A converted model and what the reference computed with it."""

    name: str
    model: CondInst
    record: dict[str, Any]
    batch: Batch
    frozen: frozenset[str]  # the reference's parameters without gradient

    @property
    def is_bifpn(self) -> bool:
        return "BiFPN" in self.name

    def theirs(self, ours: str) -> list[str]:
        return their_names(ours, BIFPN_BODY if self.is_bifpn else FPN_BODY)


def converted(golden: Path, folder: Path, name: str) -> CondInst:
    """The filled checkpoint, through the files that a user has."""
    torch.save({"model": reference_state(golden, name), "iteration": 5}, folder / "in.pth")
    convert_file(folder / "in.pth", folder / "out.ckpt")
    trained = load_trained(folder / "out.ckpt")
    model, class_names = trained.model, trained.class_names
    (folder / "in.pth").unlink()
    (folder / "out.ckpt").unlink()
    assert (len(class_names), class_names[0]) == (80, "person")
    return model


@pytest.fixture(scope="module", params=MODELS)
def reference(golden: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Reference:
    record = json.loads((golden / "golden.json").read_text())[request.param]
    model = converted(golden, tmp_path_factory.mktemp("converted"), request.param)
    frozen = frozenset(entries(golden, request.param)["frozen_parameters"])
    return Reference(request.param, model, record, golden_batch(golden, "A", "B"), frozen)


@dataclass(frozen=True)
class Activations:
    """Everything between the pixels and the dense predictions, in evaluation mode."""

    images: Tensor
    stages: dict[int, Tensor]
    levels: dict[int, Tensor]
    dense: DensePredictions


@pytest.fixture(scope="module")
def activations(reference: Reference) -> Activations:
    model, batch = reference.model.eval(), reference.batch
    with torch.no_grad():
        images = model.normalize(batch.pixels, batch.image_sizes)
        stages = model.backbone(images)
        return Activations(images, stages, model.neck(stages), model(images))


def per_level(dense: DensePredictions, values: Tensor, levels: dict[int, Tensor]) -> Iterator[Tensor]:
    """``(B, K, C)`` -> the levels' maps ``(B, C, h, w)``."""
    for index, level in enumerate(LEVELS):
        height, width = levels[int(level[1])].shape[-2:]
        yield values[:, dense.locations.level_inds == index].unflatten(1, (height, width)).permute(0, 3, 1, 2)


# ---------------------------------------------------------------- conversion
@pytest.mark.parametrize("name", ALL_MODELS)
def test_parameters_are_as_many(golden: Path, name: str) -> None:
    expected = entries(golden, name)
    tensors = {
        key: torch.zeros(shape) if key.startswith("mask_head.") else torch.empty(shape, device="meta")
        for key, (shape, _, _) in expected["state_dict"].items()
    }
    parts = convert_model(Weights(Path(name), tensors)).parts
    assert parts["all"][1] == expected["num_parameters"]
    assert parts["all"][0] == len(expected["state_dict"]) - 2 - 4 + 2, "two buffers less, five scales in one, two pixel statistics more"


# ---------------------------------------------------------------- activations
def test_pixels_to_features(reference: Reference, activations: Activations) -> None:
    record = reference.record
    assert deviation(activations.images, record["network_input"]) < 1e-5
    for stage in (3, 4, 5):
        assert deviation(activations.stages[stage], record["bottom_up"][f"res{stage}"]) < 1e-3
    for level in LEVELS:
        assert deviation(activations.levels[int(level[1])], record["features"][level]) < 1e-3
    assert deviation(activations.dense.mask_feats, record["mask_branch_eval"]) < 1e-3


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("cls_logits", "cls_logits"),
        ("ltrb", "reg_pred_relu_stride_units"),
        ("ctr_logits", "ctrness_logits"),
    ],
)
def test_head(reference: Reference, activations: Activations, ours: str, theirs: str) -> None:
    dense = activations.dense
    values = getattr(dense, ours)
    maps = per_level(dense, values if values.dim() == 3 else values.unsqueeze(-1), activations.levels)
    for level, found in zip(LEVELS, maps, strict=True):
        assert deviation(found, reference.record[theirs][level]) < 1e-3


@torch.no_grad()
def test_controller(reference: Reference, activations: Activations) -> None:
    dense = activations.dense
    images, count = dense.tower_feats.shape[:2]
    where = torch.cartesian_prod(torch.arange(images), torch.arange(count))
    values = reference.model.mask_params(dense, where[:, 0], where[:, 1]).view(images, count, -1)
    for level, found in zip(LEVELS, per_level(dense, values, activations.levels), strict=True):
        assert deviation(found, reference.record["controller"][level]) < 1e-3


def located(dense: DensePredictions, level: int, x: int, y: int) -> int:
    """The place of a location in the K of all levels."""
    here = (dense.locations.level_inds == level) & (dense.locations.xy == torch.tensor([x, y])).all(dim=1)
    return int(here.nonzero().item())


@torch.no_grad()
def test_dynamic_mask_head(reference: Reference, activations: Activations) -> None:
    record, dense = reference.record["mask_head"], activations.dense
    for (image, level, _, _), xy, logits in zip(record["select_im_level_row_col"], record["locations_xy"], record["logits"], strict=True):
        loc = torch.tensor([located(dense, level, *xy)])
        samples = MaskSamples(torch.tensor([image]), loc, torch.zeros(1, dtype=torch.int64), (1 - image, image), (1 - image, image))
        assert deviation(reference.model.mask_logits(dense, samples), logits) < 1e-3


# ---------------------------------------------------------------- inference
def detections(reference: Reference, golden: Path, image: str, threshold: float) -> dict[tuple[int, int, int, int], dict[str, Any]]:
    """Ours by (level, x, y, class): box, score, mask area, mean of the mask's scores on its own grid."""
    batch, model = golden_batch(golden, image), reference.model.eval()
    rendered: list[tuple[Tensor, Tensor]] = []  # locations of the detections that are not empty, and their mask logits

    def render(dense: DensePredictions, samples: MaskSamples) -> Tensor:
        rendered.append((samples.loc_inds, model.mask_logits(dense, samples)))
        return rendered[-1][1]

    with torch.no_grad():
        dense = model(model.normalize(batch.pixels, batch.image_sizes))
        post = Postprocess(DetectionConfig(score_threshold=threshold))
        (found,) = post(SimpleNamespace(mask_logits=render), dense, batch)
    ((locs, logits),) = rendered
    means = logits.sigmoid().flatten(1).mean(dim=1)
    keys = zip(dense.locations.level_inds[locs].tolist(), *dense.locations.xy[locs].long().t().tolist(), found.labels.tolist(), strict=True)
    values = zip(found.boxes.tolist(), found.scores.tolist(), coco_mask.area(list(found.masks)).tolist(), means.tolist(), strict=True)
    return {key: dict(zip(("box", "score", "area", "mean"), value, strict=True)) for key, value in zip(keys, values, strict=True)}


def recorded_detections(record: dict[str, Any]) -> dict[tuple[int, int, int, int], dict[str, Any]]:
    columns = (record[k] for k in ("fpn_levels", "locations_xy", "classes", "boxes", "scores", "mask_areas", "prob_mask_mean"))
    return {
        (level, *xy, label): {"box": box, "score": score, "area": area, "mean": mean}
        for level, xy, label, box, score, area, mean in zip(*columns, strict=True)
    }


def test_detections(reference: Reference, golden: Path) -> None:
    runs = {key: value for key, value in reference.record.items() if key.startswith("inference")}
    assert runs
    for key, per_image in runs.items():
        threshold = float(key.removeprefix("inference_score_thresh_")) if "thresh" in key else 0.05
        for image, record in zip("AB", per_image, strict=True):
            ours, theirs = detections(reference, golden, image, threshold), recorded_detections(record)
            weakest = min(d["score"] for d in theirs.values()) if len(theirs) == 100 else threshold**0.5
            for only in ours.keys() ^ theirs.keys():
                assert abs((ours | theirs)[only]["score"] - weakest) < 1e-3, (key, image, only)
            common = ours.keys() & theirs.keys()
            assert len(common) >= 0.95 * len(theirs)
            for at in common:
                assert ours[at]["box"] == pytest.approx(theirs[at]["box"], abs=0.05)
                assert ours[at]["score"] == pytest.approx(theirs[at]["score"], abs=1e-3)
                assert ours[at]["area"] == pytest.approx(theirs[at]["area"], rel=5e-3, abs=2), "two pixels of the smallest masks"
                assert ours[at]["mean"] == pytest.approx(theirs[at]["mean"], abs=1e-4)


# ---------------------------------------------------------------- training
@dataclass(frozen=True)
class Step:
    """One training step from the fill: losses at full warm-up with their gradients, and what led to them."""

    dense: DensePredictions
    assignment: Assignment
    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]  # by the reference's names
    buffers: dict[str, Tensor]  # by our names, after the one forward
    criterion: Criterion
    quality: Tensor


@pytest.fixture(scope="module")
def step(reference: Reference) -> Iterator[Step]:
    """Runs after the tests of evaluation mode; the statistics are put back."""
    model, batch = reference.model.train(), reference.batch
    before = {name: value.clone() for name, value in model.named_buffers()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not set(reference.theirs(name)) <= reference.frozen)
    criterion = Criterion({"cls": 1.0, "box": 1.0, "ctr": 1.0, "proj": 1.0, "pairwise": 1.0})
    module = CondInstModule(
        model=model,
        criterion=criterion,
        postprocess=Postprocess(),
        optimizer=None,  # type: ignore[arg-type]  # no step is taken
        class_names=[str(i) for i in range(80)],
        category_ids=range(80),
    )
    losses = module.losses(batch, step=10_000)
    torch.stack(list(losses.values())).sum().backward()
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    with torch.no_grad():
        dense = module.predict_dense(batch)
    assignment = assign(dense.locations, batch.targets, num_classes=80, padded_size=PADDED)
    quality = dense.cls_logits.sigmoid().amax(dim=-1) * dense.ctr_logits.sigmoid()
    gradients: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            theirs = reference.theirs(name)
            gradients |= dict(zip(theirs, parameter.grad.split(1) if len(theirs) > 1 else [parameter.grad], strict=True))
    yield Step(dense, assignment, losses, gradients, buffers, criterion, quality)
    model.load_state_dict(before, strict=False)
    model.zero_grad()
    model.eval()


def numbers(losses: dict[str, Tensor]) -> dict[str, float]:
    return {LOSSES[name]: value.item() for name, value in losses.items()}


def test_losses(reference: Reference, step: Step) -> None:
    record = reference.record["train_iter9999"]
    assert numbers(step.losses) == pytest.approx(record["losses"], rel=1e-4)
    assert sum(numbers(step.losses).values()) == pytest.approx(record["total"], rel=1e-4)
    assert numbers(step.losses) == pytest.approx(reference.record["train_iter9999_float64_losses"], rel=1e-4)


def losses_of(reference: Reference, step: Step, samples: MaskSamples, at: int) -> dict[str, float]:
    with torch.no_grad():
        logits = reference.model.mask_logits(step.dense, samples)
        return numbers(step.criterion(step.dense, step.assignment, samples, logits, reference.batch, step=at))


def test_losses_when_the_warmup_begins(reference: Reference, step: Step) -> None:
    samples = select_mask_samples(step.assignment, step.quality)
    assert losses_of(reference, step, samples, at=1) == pytest.approx(reference.record["train_iter0"]["losses"], rel=1e-4)


def keyed(dense: DensePredictions, im_inds: Tensor, loc_inds: Tensor, gt_inds: Tensor) -> list[tuple[int, ...]]:
    """(image, level, x, y, ground truth) as golden.json counts: B's boxes after A's five."""
    rows = [im_inds, dense.locations.level_inds[loc_inds], *dense.locations.xy[loc_inds].long().t(), gt_inds + 5 * im_inds]
    return [tuple(row) for row in torch.stack(rows, dim=1).tolist()]


def recorded_keys(record: dict[str, Any]) -> list[tuple[int, ...]]:
    columns = (record[k] for k in ("im_inds", "fpn_levels", "locations_xy", "gt_inds"))
    return [(image, level, *xy, gt) for image, level, xy, gt in zip(*columns, strict=True)]


def test_positives(reference: Reference, step: Step) -> None:
    if "positives" not in reference.record["train_iter9999"]:
        pytest.skip("recorded for R50_FPN alone")
    record = reference.record["train_iter9999"]
    at = (step.assignment.gt_inds >= 0).nonzero(as_tuple=True)
    keys = keyed(step.dense, *at, step.assignment.gt_inds[at])
    order = [keys.index(key) for key in recorded_keys(record["positives"])]
    assert sorted(order) == list(range(record["num_pos"]))
    assert step.assignment.labels[at][order].tolist() == record["positives"]["labels"]
    ltrb, centerness = step.assignment.ltrb[at][order], step.assignment.centerness[at][order]
    torch.testing.assert_close(ltrb, torch.tensor(record["positives"]["reg_targets_stride_units"]), atol=1e-5, rtol=0)
    torch.testing.assert_close(centerness, torch.tensor(record["positives"]["ctrness_targets"]), atol=1e-6, rtol=0)
    assert centerness.sum().item() == pytest.approx(record["sum_ctrness_targets"], rel=1e-6)


@pytest.mark.parametrize(("entry", "per_image"), [("train_iter9999", 64), ("train_iter9999_topk20", 20)])
def test_mask_samples(reference: Reference, step: Step, entry: str, per_image: int) -> None:
    if "mask_loss_instances" not in reference.record.get(entry, {}):
        pytest.skip("recorded for R50_FPN alone")
    samples = select_mask_samples(step.assignment, step.quality, per_image=per_image)
    keys, recorded = keyed(step.dense, samples.im_inds, samples.loc_inds, samples.gt_inds), reference.record[entry]
    theirs = recorded_keys(recorded["mask_loss_instances"])
    assert sorted(keys) == sorted(theirs)
    assert losses_of(reference, step, samples, at=10_000) == pytest.approx(recorded["losses"], rel=1e-4)
    if per_image == 64:
        with torch.no_grad():
            logits = reference.model.mask_logits(step.dense, samples)[[keys.index(key) for key in theirs]]
        assert deviation(logits.unsqueeze(1), recorded["mask_logits_train"]) < 1e-3
        assert deviation(step.dense.mask_feats, recorded["mask_feats_train"]) < 1e-3


def test_box_masks_and_colours(reference: Reference) -> None:
    record, batch = reference.record["train_iter9999"], reference.batch
    if "color_similarity" not in record:
        pytest.skip("recorded for R50_FPN alone")
    for target, size, recorded in zip(batch.targets, (4, 1), ("gt_bitmask_sums_stride4", "gt_bitmask_full_sums"), strict=True):
        for target, sums in zip(batch.targets, record[recorded], strict=True):
            grid = (PADDED[0] // size, PADDED[1] // size)
            assert box_masks(target.boxes, grid, size).sum(dim=(1, 2)).tolist() == sums
    valid = valid_mask(batch.image_sizes, batch.original_sizes, PADDED, 4, "cpu")
    similarity = color_similarity(pooled_colors(batch.pixels, 4), valid)
    for ours, theirs in zip(similarity, record["color_similarity"], strict=True):
        assert deviation(ours, theirs) < 1e-5
        assert int((ours >= 0.3).sum()) == theirs["num_ge_0.3"]


def test_gradients(reference: Reference, step: Step) -> None:
    record = reference.record["train_iter9999"]
    usual = 1e-2 if reference.is_bifpn else 1e-3
    for name, expected in record["grads"].items():
        if "lateral_" in name and name.endswith(".bias") and "norm" not in name:
            continue  # a batch norm follows: mathematically 0
        tolerance, noise = (0.1, 2e-3) if "weights_f" in name else (usual, 1e-9)
        gradient = step.gradients[name]
        assert gradient.double().norm().item() == pytest.approx(expected["norm"], rel=tolerance, abs=noise), name
        samples = torch.tensor(expected["samples"], dtype=torch.float64)
        assert (sampled(gradient, len(samples)) - samples).abs().max() <= max(5 * tolerance * expected["norm"], noise), name
    total = torch.stack([g.double().norm() for g in step.gradients.values()]).norm().item()
    assert total == pytest.approx(record["grad_total_norm"], rel=usual)
    assert record["params_without_grad"] == 0


def test_statistics_after_one_step(reference: Reference, step: Step) -> None:
    for name, expected in reference.record["train_iter9999"]["bn_after"].items():
        assert step.buffers[name].flatten()[: len(expected)].tolist() == pytest.approx(expected, abs=1e-4), name
