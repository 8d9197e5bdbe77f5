"""Reading checkpoints: what is refused, and that the message names the culprit; what is loaded."""

from __future__ import annotations

import logging
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cis_seg.checkpoint import init_from, load_file, load_strictly, model_state
from cis_seg.errors import CheckpointError

RAN: list[str] = []


class Code:
    """Pickled as a call."""

    def __reduce__(self) -> Any:
        return RAN.append, ("code of the file was run",)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as info:
        load_file(path)
    assert str(path) in str(info.value)
    return str(info.value)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint as ``cis_seg.train`` writes it."""
    path = tmp_path / "last.ckpt"
    state = {f"model.{name}": value for name, value in nn.Linear(3, 2).state_dict().items()} | {"other.weight": torch.zeros(1)}
    torch.save({"state_dict": state, "cis_seg": {"config": {"seed": 0}}, "global_step": 7}, path)
    return path


# ---------------------------------------------------------------- files
def test_plain_content_is_read(saved: Path) -> None:
    content = load_file(saved)
    assert content["global_step"] == 7
    assert model_state(content, saved).keys() == {"weight", "bias"}, "the network's own, without the prefix"


def test_missing_file(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").touch()
    message = refusal(tmp_path / "lst.ckpt")
    assert "best.ckpt, last.ckpt" in message
    assert "no .ckpt file" in refusal(tmp_path / "nowhere" / "last.ckpt")
    assert "no checkpoint" in refusal(tmp_path), "a folder is none"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_file(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    message = refusal(saved)
    assert f"{int(share * len(content))} bytes" in message
    assert "cut short" in message


def test_files_of_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    for content in (b"hello", b'{"state_dict": {}}', b"\x89PNG\r\n\x1a\n", pickle.dumps({"a": 1}, protocol=2), b"\x80\x02."):
        path.write_bytes(content)
        assert "another format" in refusal(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_whatever_the_bytes_the_message_is_readable(tmp_path: Path) -> None:
    generator, path = random.Random(0), tmp_path / "last.ckpt"
    for _ in range(60):
        path.write_bytes(b"\x80\x02" + generator.randbytes(40))
        assert "what to do" in refusal(path)


def test_code_is_named_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "cis_seg": Code()}, path)
    message = refusal(path)
    assert "getattr" in message
    assert "run code" in message
    assert "weights_only" not in message, "torch's advice is to run it"
    torch.save({"state_dict": {}, "cis_seg": {"run": Path("a")}}, path)
    assert "pathlib" in refusal(path)
    assert RAN == []


def test_content_that_is_no_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save([torch.zeros(2)], path)
    assert "found: list" in refusal(path)


@pytest.mark.parametrize("content", [{"model": {}, "iteration": 5}, {"state_dict": {}}, {"cis_seg": {}}, {}])
def test_foreign_checkpoint(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "R_50.pth"
    with pytest.raises(CheckpointError, match=r"R_50\.pth was not written by cis_seg\.train") as info:
        model_state(content, path)
    assert "expected: the keys state_dict and cis_seg" in str(info.value)
    assert f"found: {', '.join(sorted(content))}" in str(info.value)


# ---------------------------------------------------------------- weights
def test_every_difference_is_named() -> None:
    model, path = nn.Linear(3, 2), Path("some.ckpt")
    before = model.weight.clone()
    state = {"weight": torch.zeros(5, 3), "head.bias": torch.zeros(7)}
    with pytest.raises(CheckpointError) as info:
        load_strictly(model, state, path)
    message = str(info.value)
    assert "some.ckpt does not fit the model: 3 tensors differ" in message
    assert "missing bias (2,)" in message
    assert "left over head.bias (7,)" in message
    assert "weight: expected (2, 3), found (5, 3)" in message
    assert torch.equal(model.weight, before), "nothing is loaded by halves"


def test_a_long_list_is_cut() -> None:
    with pytest.raises(CheckpointError, match="41 tensors differ") as info:
        load_strictly(nn.Linear(3, 2), {f"layer{i}": torch.zeros(1) for i in range(39)}, Path("some.ckpt"))
    assert str(info.value).count("left over") + str(info.value).count("missing") == 10


def test_init_from(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Linear(3, 2)
    with caplog.at_level(logging.INFO):
        init_from(model, saved)
    weights = torch.load(saved, weights_only=True)["state_dict"]
    assert torch.equal(model.weight, weights["model.weight"])
    assert torch.equal(model.bias, weights["model.bias"])
    assert f"all 2 tensors of {saved} loaded" in caplog.text
    with pytest.raises(CheckpointError, match=r"last\.ckpt does not fit"):
        init_from(nn.Linear(4, 2), saved)
