"""Seals: a checksum inside a file, where its format has a place for a note, over every other byte of the file.

A seal is one text of a fixed length, `campfire_fx seal: code C sha256 S`. S is the SHA-256 of the file without the 64
characters of S, in hexadecimal. C is that of the model code that belongs to the file, or 64 dashes. The text is

- in a zip archive (.pt, .pth, .pt2, .ckpt) the archive's comment, at the end of the file;
- in .safetensors a value of the header's `__metadata__`, at the beginning;
- in .onnx a value of the model's `metadata_props`, at the beginning;
- in .mnn the end of the text `bizCode`, at the end.

So files with a seal are ordinary files of their format, and those without one are read as before.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path
from typing import IO

_SEAL = re.compile(rb"campfire_fx seal: (?:code ([0-9a-f]{64}|-{64}) sha256 ([0-9a-f]{64}))?")
_LENGTH = 64
_WINDOW = 1024
"""A seal is within so many bytes of one end of the file."""
_CHUNK = 1 << 20
_ZIP, _ZIP_END = b"PK\x03\x04", b"PK\x05\x06"
_ZIP_END_LENGTH = 22


def blank(code: str | None = None) -> str:
    """Return the text of a seal that is not closed yet.

    Args:
        code: the text of the model code that the file belongs to.
    """
    known = "-" * _LENGTH if code is None else _digest_of(code)
    return f"campfire_fx seal: code {known} sha256 {'0' * _LENGTH}"


def close(file: IO[bytes], code: str | None = None) -> None:
    """Write the checksum of a file, open for reading and writing, into its seal; a zip archive is given one.

    Args:
        file: at any place.
        code: as in `blank`, for a zip archive.

    Raises:
        ValueError: there is no seal to close, and no place for one.
    """
    if _find(file) is None:
        _comment(file, blank(code))
    found = _find(file)
    assert found is not None
    digest = _digest(file, found[0])
    file.seek(found[0])
    file.write(digest.encode("ascii"))
    file.seek(0, 2)


def fault(path: Path, code: str | None = None) -> str | None:
    """Return what is wrong with a file by its seal, as half a sentence; None: nothing, or there is no seal.

    Of a zip archive without a seal the checksums of its members are compared, as far as the writer made any.

    Args:
        path: the file.
        code: the model code beside it.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        found = _find(file)
        if found is None:
            return _fault_of_members(file)
        at, belongs, digest = found
        if not digest or _digest(file, at) != digest:
            return "its checksum is wrong, so the file is damaged"
    if code is not None and belongs != _digest_of(code) and not belongs.startswith("-"):
        return "the code beside it is not the code that it was exported with"
    return None


def _comment(file: IO[bytes], text: str) -> None:
    """Add a comment to a zip archive without one, as torch writes it."""
    file.seek(max(-_ZIP_END_LENGTH, -file.seek(0, 2)), 2)
    end = file.read(_ZIP_END_LENGTH)
    if not end.startswith(_ZIP_END) or end[-2:] != b"\0\0":
        raise ValueError("there is no seal to close, and the file is no zip archive that ends without a comment")
    file.seek(-2, 2)
    file.write(len(text).to_bytes(2, "little") + text.encode("ascii"))


def _find(file: IO[bytes]) -> tuple[int, str, str] | None:
    """Return where the checksum of the seal stands, the code's digest, and the checksum; both "" in a spoilt seal."""
    size = file.seek(0, 2)
    for start in (0, max(0, size - _WINDOW)):
        file.seek(start)
        seal = _SEAL.search(file.read(_WINDOW))
        if seal is not None:
            return start + seal.start(2), (seal[1] or b"").decode(), (seal[2] or b"").decode()
    return None


def _digest(file: IO[bytes], at: int) -> str:
    """Return the SHA-256 of a file without the checksum at `at`."""
    digest = hashlib.sha256()
    file.seek(0)
    left = at
    while left:
        chunk = file.read(min(left, _CHUNK))
        digest.update(chunk)
        left -= len(chunk)
    file.seek(at + _LENGTH)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _digest_of(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def _fault_of_members(file: IO[bytes]) -> str | None:
    """Compare the checksums of the members of a zip archive; a writer may have left out all of them."""
    file.seek(0)
    if file.read(len(_ZIP)) != _ZIP:
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            if not any(member.CRC for member in archive.infolist()):
                return None
            spoilt = archive.testzip()
    except Exception as error:  # noqa: BLE001  zipfile raises errors of many kinds
        return f"it is not a whole archive ({error})"
    return None if spoilt is None else f"the checksum of {spoilt} in it is wrong, so the file is damaged"
