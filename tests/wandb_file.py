"""Reads an offline W&B file back: a 7-byte header, then LevelDB log blocks of records, each a protobuf ``Record``."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32_768
LONGEST_WAIT = 60  # seconds
HEADER = struct.Struct("<IHB")  # checksum, length, type: 1 whole, 2 first, 3 middle, 4 last part


def records(path: Path) -> list[Any]:
    """Every record of a finished run's ``.wandb`` file, in order; waits for the last ones, which ``wandb.finish`` does not."""
    end = time.monotonic() + LONGEST_WAIT
    while not (found := list(_written(path.read_bytes()))) or not found[-1].HasField("exit"):
        assert time.monotonic() < end, f"{path} is not complete: {len(found)} records, the last one is not of the run's end"
        time.sleep(0.05)
    return found


def _written(content: bytes) -> Iterator[Any]:
    """The records that ``content``, the beginning of a file, holds in full."""
    at, parts = 7, b""
    while at + HEADER.size <= len(content):
        if BLOCK - at % BLOCK < HEADER.size:  # the rest of a block that cannot hold a header is filled with zeros
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = HEADER.unpack_from(content, at)
        at += HEADER.size
        if at + length > len(content):
            return
        parts += content[at : at + length]
        at += length
        if kind in (1, 4):
            yield Record.FromString(parts)
            parts = b""


def history(path: Path) -> list[dict[str, Any]]:
    """What was logged, a dictionary for each step."""
    rows = []
    for record in records(path):
        if record.HasField("history"):
            items = ((item.key or ".".join(item.nested_key), item.value_json) for item in record.history.item)
            rows.append({key: json.loads(value) for key, value in items})
    return rows


def summary(path: Path) -> dict[str, Any]:
    """The last summary of the run: name -> value, nested names with dots."""
    found: dict[str, Any] = {}
    for record in records(path):
        if record.HasField("summary"):
            found |= {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.summary.update}
    return found


def table(path: Path, key: str) -> dict[str, Any]:
    """The last table logged as ``key``: its ``columns`` and ``data``."""
    content: dict[str, Any] = json.loads((path.parent / "files" / summary(path)[f"{key}.path"]).read_text())
    return content
