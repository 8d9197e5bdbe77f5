"""The kind of a file by its first bytes, and its mention in the errors of the readers of images, JSON and checkpoints."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from cis_seg.checkpoints import load_file
from cis_seg.coco.reader import read_json
from cis_seg.data.images import read_image
from cis_seg.errors import CheckpointError, DataError
from cis_seg.runtime.file_kinds import file_kind

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
HTML = b"\n<!DOCTYPE html><html><head><title>Sign in</title>"
HEIC = b"\x00\x00\x00\x24ftypheic\x00\x00\x00\x00mif1heic"
VOC = b"<annotation>\n<filename>1.jpg</filename></annotation>"
LATIN = '{"images": [{"file_name": "café.jpg"}]}'.encode("latin-1")


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return buffer.getvalue()


KINDS = [
    (LFS, "a Git LFS pointer"),
    (HTML, "a web page"),
    (HEIC, "a HEIC photo"),
    (b"\x00\x00\x00\x20ftypavif", "an AVIF image"),
    (b"\x00\x00\x00\x18ftypcrx \x00\x00", "a Canon raw photo (CR3)"),
    (b"\x00\x00\x00\x20ftypisom", "a video"),
    (b"II*\x00\x10\x00\x00\x00CR\x02\x00", "a Canon raw photo (CR2)"),
    (b"FUJIFILMCCD-RAW 0201", "a Fujifilm raw photo"),
    (gzip.compress(b"{}", mtime=0), "a gzip archive"),
    (zipped("a.json", "b.json"), "a zip archive of a.json, b.json"),
    (zipped("a.json")[:20], "a zip archive that is corrupt"),
    (zipped("archive/data.pkl"), "a PyTorch checkpoint"),
    (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
    (b"<?xml version='1.0'?>\n<svg xmlns='x'/>", "an SVG drawing"),
    (b"<?xml version='1.0'?><annotations><meta/></annotations>", "CVAT annotations"),
    (VOC, "Pascal VOC annotations"),
    (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an error page"),
    (b"404: Not Found", 'text that begins with "404: Not Found"'),
    (b"\xef\xbb\xbf[1, 2]", "JSON"),
    ("{}".encode("utf-16"), "JSON"),
    (b"\x00\x05\x16\x07\x00\x02", "macOS metadata"),
    (b"", "an empty file"),
    (bytes(5000), "a file of zero bytes"),
    (b"\x93NUMPY\x01\x00", "a NumPy array"),
]


@pytest.mark.parametrize(("content", "expected"), KINDS, ids=[name for _, name in KINDS])
def test_kind_by_first_bytes(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "file.jpg"  # the suffix is ignored
    path.write_bytes(content)
    kind = file_kind(path)
    assert kind is not None
    assert kind.name.startswith(expected)


def test_unknown_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x80\x02}q\x00.")
    assert file_kind(tmp_path / "x") is None
    assert file_kind(tmp_path / "absent") is None


def test_every_image_that_pillow_writes_is_an_image(tmp_path: Path) -> None:
    for suffix in ("jpg", "png", "gif", "tiff", "webp", "bmp", "jp2", "avif", "ico"):
        path = tmp_path / f"image.{suffix}"
        Image.new("RGB", (32, 32), "red").save(path)
        kind = file_kind(path)
        assert kind is not None, suffix
        assert kind.family == "image", suffix


@pytest.mark.parametrize(
    ("content", "words", "remedy"),
    [
        (LFS, "Git LFS pointer", "git lfs pull"),
        (HTML, "web page", "download the file itself"),
        (HEIC, "HEIC", "convert it to JPEG"),
        (gzip.compress(b"x", mtime=0), "gzip", "gunzip"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a JPEG image: ", "cut short"),
        (b'{"a": 1}', "JSON", "give an image"),
    ],
    ids=["lfs", "html", "heic", "gzip", "jpeg-cut-short", "json"],
)
def test_images(tmp_path: Path, content: bytes, words: str, remedy: str) -> None:
    (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(DataError, match=rf"photo.jpg cannot be read as an image[\s\S]*{words}[\s\S]*{len(content)} bytes[\s\S]*{remedy}"):
        read_image(tmp_path / "photo.jpg")


@pytest.mark.parametrize(
    ("content", "words", "remedy"),
    [
        (LFS, "Git LFS pointer", "git lfs pull"),
        (gzip.compress(b"{}", mtime=0), "gzip", "gunzip"),
        (VOC, "Pascal VOC", "export the annotations as COCO"),
        (LATIN, "another encoding than UTF-8: byte 0xe9", "iconv"),
        (zipped("instances.json"), "a zip archive of instances.json", "unzip"),
        (b'{"images": [', "Expecting value", "corrupt or truncated"),
        (b"\xff\xd8\xff\xe0", "a JPEG image", ""),
    ],
    ids=["lfs", "gzip", "voc", "latin-1", "zip", "cut-short", "jpeg"],
)
def test_json(tmp_path: Path, content: bytes, words: str, remedy: str) -> None:
    (tmp_path / "train.json").write_bytes(content)
    with pytest.raises(DataError, match=rf"train.json is not valid JSON[\s\S]*{words}[\s\S]*{len(content)} bytes[\s\S]*{remedy}"):
        read_json(tmp_path / "train.json", "the annotation file")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_of_other_unicode_encodings_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "train.json").write_bytes(json.dumps({"name": "é"}, ensure_ascii=False).encode(encoding))
    assert read_json(tmp_path / "train.json", "the annotation file") == {"name": "é"}


@pytest.mark.parametrize(
    ("content", "words"),
    [(LFS, "Git LFS pointer.*git lfs pull"), (HTML, "a web page.*another format"), (zipped("weights.h5"), "a zip archive of weights.h5")],
    ids=["lfs", "html", "zip"],
)
def test_checkpoints(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "best.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        load_file(tmp_path / "best.ckpt")


def test_truncated_checkpoint_is_not_identified_as_another_format(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(10)}, tmp_path / "best.ckpt")
    whole = (tmp_path / "best.ckpt").read_bytes()
    (tmp_path / "best.ckpt").write_bytes(whole[:-50])
    with pytest.raises(CheckpointError, match="cut short"):
        load_file(tmp_path / "best.ckpt")
