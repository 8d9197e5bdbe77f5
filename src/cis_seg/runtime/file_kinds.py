"""Recognise the kind of a file by its first bytes, for the message if it is not what its reader expects."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import NamedTuple

_HEAD = 4096  # bytes that are read
_SHOWN = 60  # characters of a text file shown in a message

JSON = "JSON"  # name of this kind


class FileKind(NamedTuple):
    """The kind of a file."""

    name: str  # "a HEIC image"
    remedy: str  # what to do if another kind was expected; empty if that depends on the reader
    family: str = ""  # "image": Pillow reads this format; "checkpoint": a PyTorch checkpoint, possibly corrupt


_IMAGE = "the file is corrupt or was cut short: download or copy it again"
_PHOTO = "convert it to JPEG first, for example: magick FILE FILE.jpg"
_RAW = "export it as JPEG or PNG with the camera's software or a raw converter (darktable, rawtherapee, dcraw)"
_ARRAY = "write it as an 8-bit PNG or JPEG first"
_OTHER = ""
_UNPACK = "unpack it first: {}"
_VIDEO = "extract its frames as images, or pass the video to cis_seg.predict"

#: offset, bytes and kind; the first match is used
_SIGNATURES: list[tuple[int, bytes, FileKind]] = [
    (0, b"version https://git-lfs", FileKind("a Git LFS pointer, not the file itself", "run git lfs pull in the repository")),
    (0, b"\x00\x05\x16\x07", FileKind("macOS metadata (a ._ file)", "delete the files whose names begin with ._")),
    (0, b"\xff\xd8\xff", FileKind("a JPEG image", _IMAGE, "image")),
    (0, b"\x89PNG\r\n\x1a\n", FileKind("a PNG image", _IMAGE, "image")),
    (0, b"GIF8", FileKind("a GIF image", _IMAGE, "image")),
    (0, b"II*\x00\x10\x00\x00\x00CR", FileKind("a Canon raw photo (CR2)", _RAW)),
    (0, b"II*\x00", FileKind("a TIFF image or a raw photo", _PHOTO, "image")),
    (0, b"MM\x00*", FileKind("a TIFF image or a raw photo", _PHOTO, "image")),
    (0, b"II+\x00", FileKind("a BigTIFF image", _PHOTO, "image")),
    (0, b"MM\x00+", FileKind("a BigTIFF image", _PHOTO, "image")),
    (8, b"WEBP", FileKind("a WebP image", _IMAGE, "image")),
    (8, b"AVI ", FileKind("an AVI video", _VIDEO)),
    (0, b"\x00\x00\x00\x0cjP  ", FileKind("a JPEG 2000 image", _IMAGE, "image")),
    (0, b"\xff\x4f\xff\x51", FileKind("a JPEG 2000 image", _IMAGE, "image")),
    (0, b"\x00\x00\x00\x0cJXL ", FileKind("a JPEG XL image", _PHOTO)),
    (0, b"\xff\x0a", FileKind("a JPEG XL image", _PHOTO)),
    (0, b"8BPS", FileKind("a Photoshop file", _PHOTO)),
    (0, b"gimp xcf", FileKind("a GIMP file", _PHOTO)),
    (0, b"\x00\x00\x01\x00", FileKind("an icon", _PHOTO, "image")),
    (0, b"FUJIFILMCCD-RAW", FileKind("a Fujifilm raw photo (RAF)", _RAW)),
    (0, b"IIRO", FileKind("an Olympus raw photo (ORF)", _RAW)),
    (0, b"IIRS", FileKind("an Olympus raw photo (ORF)", _RAW)),
    (0, b"IIU\x00", FileKind("a Panasonic raw photo (RW2)", _RAW)),
    (0, b"FOVb", FileKind("a Sigma raw photo (X3F)", _RAW)),
    (0, b"\x76\x2f\x31\x01", FileKind("an OpenEXR image", _ARRAY)),
    (0, b"#?R", FileKind("a Radiance HDR image", _ARRAY)),
    (128, b"DICM", FileKind("a DICOM file", _ARRAY)),
    (0, b"SIMPLE  =", FileKind("a FITS file", _ARRAY)),
    (0, b"\x93NUMPY", FileKind("a NumPy array", _ARRAY)),
    (0, b"\x89HDF\r\n", FileKind("an HDF5 file", _OTHER)),
    (0, b"%PDF", FileKind("a PDF", "export its pages as PNG, for example: pdftoppm -png FILE page")),
    (0, b"%!PS", FileKind("a PostScript file", _PHOTO)),
    (0, b"\x1f\x8b", FileKind("a gzip archive", _UNPACK.format("gunzip FILE.gz (or tar -xzf FILE)"))),
    (0, b"BZh", FileKind("a bzip2 archive", _UNPACK.format("bunzip2 FILE"))),
    (0, b"\xfd7zXZ\x00", FileKind("an xz archive", _UNPACK.format("unxz FILE"))),
    (0, b"\x28\xb5\x2f\xfd", FileKind("a zstd archive", _UNPACK.format("unzstd FILE"))),
    (0, b"7z\xbc\xaf\x27\x1c", FileKind("a 7-Zip archive", _UNPACK.format("7z x FILE"))),
    (0, b"Rar!", FileKind("a RAR archive", _UNPACK.format("unrar x FILE"))),
    (257, b"ustar", FileKind("a tar archive", _UNPACK.format("tar -xf FILE"))),
    (0, b"\x1aE\xdf\xa3", FileKind("a Matroska or WebM video", _VIDEO)),
    (0, b"SQLite format 3", FileKind("an SQLite database", _OTHER)),
    (0, b"PAR1", FileKind("a Parquet file", "export it in the expected format")),
    (0, b"L\x00\x00\x00\x01\x14\x02\x00", FileKind("a Windows shortcut", "give the file that it points to")),
    (0, b"BM", FileKind("a BMP image", _IMAGE, "image")),
]
#: brands of the ISO media container: HEIC, AVIF, videos
_BRANDS: list[tuple[bytes, FileKind]] = [
    (b"avif avis", FileKind("an AVIF image", _PHOTO, "image")),
    (b"heic heix hevc hevx heim heis mif1 msf1", FileKind("a HEIC photo (of an iPhone)", _PHOTO)),
    (b"crx ", FileKind("a Canon raw photo (CR3)", _RAW)),
]
_HTML = FileKind(
    "a web page (HTML)", "the address gave a page (a login, an error, a preview) instead of the file: download the file itself"
)
_ZIPS = {
    "data.pkl": FileKind("a PyTorch checkpoint", _OTHER, "checkpoint"),
    "[Content_Types].xml": FileKind("an Office document", _OTHER),
    ".npy": FileKind("NumPy arrays (.npz)", _OTHER),
}


def file_kind(path: Path) -> FileKind | None:
    """Return the kind of the file ``path`` by its first bytes; None if it cannot be recognised or read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    if not head:
        return FileKind("an empty file", "download or copy it again: it was cut short")
    if not head.strip(b"\0"):
        return FileKind("a file of zero bytes", "the copy or download was not finished, or the disk was full: download or copy it again")
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    if head[4:8] == b"ftyp":
        video = FileKind("a video (MP4 or MOV)", _VIDEO)
        return next((kind for brands, kind in _BRANDS if head[8:12] in brands), video)
    kind = next((kind for start, magic, kind in _SIGNATURES if head[start : start + len(magic)] == magic), None)
    return kind or _text_kind(head)


def _zip_kind(path: Path) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return FileKind("a zip archive that is corrupt or was cut short", "download or copy it again", "checkpoint")
    found = (kind for end, kind in _ZIPS.items() if any(name.endswith(end) for name in names))
    listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return next(found, FileKind(f"a zip archive of {listed}", _UNPACK.format("unzip FILE")))


def _text_kind(head: bytes) -> FileKind | None:
    """Return the kind of a text: HTML, XML, JSON or other; None if ``head`` is not text."""
    text = _decoded(head)
    if text is None:
        return None
    start = text.lstrip().lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<script", "<body")):
        return _HTML
    if "<svg" in start and start.startswith("<"):
        return FileKind("an SVG drawing", "export it as PNG, for example: rsvg-convert FILE -o FILE.png")
    if start.startswith("<?xml") or ("</" in start and start.startswith("<")):
        return _xml_kind(start)
    if start.startswith(("{", "[")):
        return FileKind(JSON, _OTHER)
    shown = json.dumps(" ".join(text.split())[:_SHOWN], ensure_ascii=False)
    return FileKind(f"text that begins with {shown}", _OTHER)


def _decoded(head: bytes) -> str | None:
    """Decode bytes in any encoding that annotation tools write; None if they are not text."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head[: len(head) // 2 * 2].decode("utf-16", errors="replace")
    if any(byte < 9 or 13 < byte < 32 for byte in head.removeprefix(b"\xef\xbb\xbf")):
        return None
    return head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace")


def _xml_kind(start: str) -> FileKind:
    if "<annotations" in start:
        name = "CVAT annotations (XML)"
    elif "<annotation" in start:
        name = "Pascal VOC annotations (XML)"
    elif "<error" in start and "<code>" in start:
        return FileKind("an error page of a download server (XML)", "the address is wrong or needs a login: download the file itself")
    else:
        return FileKind("XML", _OTHER)
    return FileKind(name, "export the annotations as COCO (instances) from your annotation tool")
