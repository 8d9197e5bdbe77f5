"""Two processes compute what one computes from the same global batch: losses and gradients, every normaliser shared.

Statistics of norms are frozen: ordinary BatchNorm has its own in each process, and SyncBatchNorm refuses a CPU.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cis_seg.config.loss_schema import OverlapConfig, PairwiseConfig, TeacherConfig
from cis_seg.inference.postprocess import Postprocess
from cis_seg.losses.criterion import Criterion
from cis_seg.structures import Batch
from cis_seg.training.module import CondInstModule
from cis_seg.training.teacher import Teacher
from tiny_model import tiny_batch, tiny_config, tiny_model

pytestmark = pytest.mark.slow

TERMS = ("cls", "box", "ctr", "mask", "proj", "pairwise", "overlap", "teacher")
TWO, THREE = [[8.0, 8, 50, 60], [30, 10, 90, 50]], [[5.0, 4, 44, 40], [20, 6, 60, 44], [10, 20, 66, 48]]
#: name -> boxes of the two images, reduction of OverlapLoss
CASES: dict[str, tuple[tuple[list[list[float]], list[list[float]]], str]] = {
    "pairs": ((TWO, THREE), "pairs"),
    "masks": ((TWO, THREE), "masks"),
    "sum": ((TWO, THREE), "sum"),
    "people in one image alone": ((TWO, []), "pairs"),
    "one location in all": (([[11.0, 11, 13, 13]], []), "pairs"),
    "nobody": (([], []), "pairs"),
    "mixed": ((TWO, THREE), "pairs"),
    "masks in one image alone": ((TWO, THREE), "pairs"),
}
#: name -> scores of the masks of both images, for supervision=mixed
SCORES = {"mixed": ([1.0, 0.0], [0.8, 0.0, 1.0]), "masks in one image alone": ([0.0, 0.0], [1.0, 1.0, 1.0])}


class Step(nn.Module):
    """Losses of a batch as one module's forward, which is what DistributedDataParallel wraps."""

    def __init__(self, reduction: str) -> None:
        super().__init__()
        self.module = CondInstModule(
            # frozen statistics; in float64, where no argument of a maximum hangs on the batch's size
            model=tiny_model().double().eval(),
            criterion=Criterion(
                dict.fromkeys(TERMS, 1.0), pairwise=PairwiseConfig(color_thresh=0.01), overlap=OverlapConfig(reduction=reduction)
            ),
            postprocess=Postprocess(),
            optimizer=None,  # type: ignore[arg-type]  # no step is taken
            class_names=["car", "person"],
            category_ids=[1, 2],
            masks_per_image=6,
            teacher=Teacher(TeacherConfig(), tiny_config()),
            momentum=0.9,
        )
        assert self.module.average is not None
        self.module.average.head.controller.bias.data[-1] += 1  # the mask head's last bias: the untrained teacher's masks are not empty

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.module.losses(batch, step=10_000)


def batch_of(case: str) -> Batch:
    batch = tiny_batch(*CASES[case][0], with_masks=True)
    if case not in SCORES:
        return batch
    scored = zip(batch.targets, SCORES[case], strict=True)
    return replace(batch, targets=tuple(replace(target, mask_scores=torch.tensor(scores)) for target, scores in scored))


def one_image(batch: Batch, index: int) -> Batch:
    """One process's share, on the canvas of the whole batch."""
    part = slice(index, index + 1)
    fields = ("image_sizes", "original_sizes", "image_ids", "positions", "targets")
    return replace(
        batch, pixels=batch.pixels[part], clean_pixels=batch.clean_pixels[part], **{name: getattr(batch, name)[part] for name in fields}
    )


def computed(step: nn.Module, batch: Batch) -> dict[str, Any]:
    """Loss terms and gradients of one step."""
    losses = {name: value for name, value in step(batch).items() if name.startswith("loss_")}
    torch.stack(list(losses.values())).sum().backward()
    gradients = {
        name.removeprefix("module.module.").removeprefix("module."): p.grad for name, p in step.named_parameters() if p.requires_grad
    }
    return {"losses": {name: value.item() for name, value in losses.items()}, "gradients": gradients}


def process(rank: int, folder: Path) -> None:
    """All cases in one of two processes."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    results = {}
    for name, (_, reduction) in CASES.items():
        step = DistributedDataParallel(Step(reduction))
        results[name] = computed(step, one_image(batch_of(name), rank))
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(process, args=(folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(two_processes: list[dict[str, Any]], case: str) -> None:
    alone = computed(Step(CASES[case][1]), batch_of(case))
    first, second = (results[case] for results in two_processes)
    assert alone["losses"].keys() == {f"loss_{term}" for term in TERMS}
    mean = {name: (first["losses"][name] + second["losses"][name]) / 2 for name in alone["losses"]}
    assert mean == pytest.approx(alone["losses"], rel=1e-6, abs=1e-12)
    for name, gradient in alone["gradients"].items():
        assert gradient is not None, name
        torch.testing.assert_close(first["gradients"][name], gradient, rtol=1e-5, atol=1e-9, msg=name)
        assert torch.equal(first["gradients"][name], second["gradients"][name]), name


def test_cases_have_the_losses_their_names_state(two_processes: list[dict[str, Any]]) -> None:
    """Every term says something where people are, in different shares; with nobody only the classifier learns."""
    first, second = (results["pairs"]["losses"] for results in two_processes)
    assert all(abs(first[name] - second[name]) > 1e-4 for name in first if name != "loss_ctr")
    assert all(value > 0 for value in (first | second).values())
    nobody = two_processes[0]["nobody"]["losses"]
    assert {name for name, value in nobody.items() if value} == {"loss_cls"}
    assert two_processes[1]["people in one image alone"]["losses"]["loss_proj"] == 0
    boxes, masks = (results["masks in one image alone"]["losses"] for results in two_processes)
    assert boxes["loss_mask"] == masks["loss_proj"] == masks["loss_pairwise"] == 0 < min(boxes["loss_proj"], masks["loss_mask"])
