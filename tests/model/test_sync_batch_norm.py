"""BatchNorm over two processes equals BatchNorm over all their images: outputs, gradients, running statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from cis_seg.model.layers import SharedBatchNorm, share_norms
from tiny_model import tiny_model

#: images of the two processes; h and w differ as canvases do
SHAPES = ((3, 5, 6, 4), (1, 5, 2, 3))


def shares() -> list[Tensor]:
    """What the two processes have; far from zero, where a mean square less a squared mean would lose digits."""
    generator = torch.Generator().manual_seed(0)
    return [100 + torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def weighted(outputs: Tensor) -> Tensor:
    """A loss whose gradient differs everywhere."""
    return (outputs * torch.arange(outputs.numel(), dtype=outputs.dtype).view(outputs.shape).cos()).sum()


def process(rank: int, folder: Path) -> None:
    """One of two processes."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    norm = nn.Sequential(nn.BatchNorm2d(5)).double()
    share_norms(norm, torch.device("cpu"))
    x = shares()[rank].requires_grad_()
    outputs = norm(x)
    weighted(outputs).backward()
    result = {"outputs": outputs.detach(), "x": x.grad, "weight": norm[0].weight.grad.clone(), "bias": norm[0].bias.grad.clone()}
    result["half"] = norm.float()(x.detach().bfloat16()).dtype
    norm.double().eval()
    torch.save(result | {"state": norm.state_dict(), "scored": norm(x).detach()}, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("norms")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        mp.spawn(process, args=(folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_normalise_as_one(results: list[dict[str, Any]]) -> None:
    parts = [share.flatten(2).transpose(1, 2).reshape(-1, 5) for share in shares()]  # BatchNorm over rows is BatchNorm over pixels
    rows = torch.cat(parts).requires_grad_()
    norm = nn.BatchNorm1d(5).double()
    outputs = norm(rows)
    losses = [
        weighted(part.view(n, h * w, 5).transpose(1, 2).reshape(n, 5, h, w))
        for part, (n, _, h, w) in zip(outputs.split([len(part) for part in parts]), SHAPES, strict=True)
    ]
    torch.stack(losses).sum().backward()

    def flat(name: str) -> Tensor:
        return torch.cat([result[name].flatten(2).transpose(1, 2).reshape(-1, 5) for result in results])

    torch.testing.assert_close(flat("outputs"), outputs.detach(), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(flat("x"), rows.grad, rtol=1e-9, atol=1e-11)
    for name in ("weight", "bias"):  # their mean over processes is DistributedDataParallel's
        torch.testing.assert_close(results[0][name] + results[1][name], norm.get_parameter(name).grad, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_the_running_statistics_are_those_of_all_images(results: list[dict[str, Any]]) -> None:
    rows = torch.cat([share.flatten(2).transpose(1, 2).reshape(-1, 5) for share in shares()])
    norm = nn.BatchNorm1d(5).double()
    norm(rows)
    for result in results:
        assert result["state"]["0.num_batches_tracked"] == 2, "the second is that in bfloat16"
        assert all(torch.equal(result["state"][name], results[0]["state"][name]) for name in result["state"])
        assert result["half"] == torch.bfloat16
    # two batches of nearly the same pixels: mean 100, of which a tenth and then a tenth of the rest is taken over
    torch.testing.assert_close(results[0]["state"]["0.running_mean"], 1.9 * norm.running_mean, rtol=1e-2, atol=0)


@pytest.mark.slow
def test_evaluation_uses_the_running_statistics(results: list[dict[str, Any]]) -> None:
    norm = nn.Sequential(nn.BatchNorm2d(5)).double().eval()
    norm.load_state_dict(results[1]["state"])
    torch.testing.assert_close(results[1]["scored"], norm(shares()[1]))


def test_parameters_buffers_and_names_stay() -> None:
    model = tiny_model().train()
    model.backbone.bn1.eval()
    names, tensors = list(model.state_dict()), {id(t) for t in [*model.parameters(), *model.buffers()]}
    share_norms(model, torch.device("cpu"))
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(isinstance(norm, SharedBatchNorm) for norm in norms)
    assert list(model.state_dict()) == names
    assert {id(t) for t in [*model.parameters(), *model.buffers()]} == tensors
    assert not model.backbone.bn1.training
    assert model.backbone.layer1.training


def test_single_process_uses_torchs_batch_norm() -> None:
    x, norm = shares()[0].float(), nn.BatchNorm2d(5)
    shared = nn.Sequential(nn.BatchNorm2d(5))
    share_norms(shared, torch.device("cpu"))
    assert torch.equal(shared(x), norm(x))
    assert torch.equal(shared[0].running_var, norm.running_var)


def test_gpu_uses_torchs_batch_norm() -> None:
    model = nn.Sequential(nn.BatchNorm2d(5), nn.GroupNorm(5, 5))
    share_norms(model, torch.device("cuda"))
    assert [type(module) for module in model] == [nn.SyncBatchNorm, nn.GroupNorm]
