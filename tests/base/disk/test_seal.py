"""Seals: every bit that flips in a file that has one is found; files are still ordinary ones of their format."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path

import pytest
import torch

from campfire_fx.base.disk.archive import Unreadable, load_archive, save_archive
from campfire_fx.base.disk.seal import blank, close, fault
from campfire_fx.base.errors import TrainError

CONTENT = {"weight": torch.arange(500.0), "name": "x", "step": 3}


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    save_archive(CONTENT, tmp_path / "x.pt", TrainError)
    return tmp_path / "x.pt"


def flipped(content: bytes, place: int, bit: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def test_a_sealed_file_is_an_ordinary_archive(sealed: Path) -> None:
    assert fault(sealed) is None
    assert torch.load(sealed)["step"] == 3 and torch.equal(torch.load(sealed, mmap=True)["weight"], CONTENT["weight"])
    with zipfile.ZipFile(sealed) as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"campfire_fx seal: code ---")


def test_every_flipped_bit_is_found_or_is_in_the_seal_itself(sealed: Path) -> None:
    content = sealed.read_bytes()
    draw = random.Random(0)
    found = 0
    for place in [*range(200), *range(len(content) - 200, len(content)), *draw.sample(range(len(content)), 200)]:
        sealed.write_bytes(flipped(content, place, draw.randrange(8)))
        if fault(sealed) is not None:
            found += 1
            continue
        assert b"campfire_fx seal: " not in sealed.read_bytes()  # its first words are what was hit
    assert found > 580


@pytest.mark.parametrize("keep", [0, 3, 4, 30, 1000, -1, -64, -400])
def test_a_truncated_file_is_refused(sealed: Path, keep: int) -> None:
    sealed.write_bytes(sealed.read_bytes()[:keep])
    with pytest.raises(Unreadable):
        load_archive(sealed)


def test_a_file_without_the_seal_alone_is_as_one_that_never_had_one(sealed: Path) -> None:
    sealed.write_bytes(sealed.read_bytes()[: -len(blank())])
    assert torch.equal(load_archive(sealed)["weight"], CONTENT["weight"])


def test_bytes_at_the_end_are_found(sealed: Path) -> None:
    sealed.write_bytes(sealed.read_bytes() + b"more")
    assert fault(sealed) == "its checksum is wrong, so the file is damaged"


def test_a_file_from_before_there_were_seals_is_held_against_the_checksums_of_its_members(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save(CONTENT, path)
    assert torch.equal(load_archive(path)["weight"], CONTENT["weight"])
    content = path.read_bytes()
    place = content.index(CONTENT["weight"].numpy().tobytes()) + 41
    path.write_bytes(flipped(content, place, 3))
    with pytest.raises(Unreadable, match=r"the checksum of old/data/0 in it is wrong, so the file is damaged"):
        load_archive(path)


def test_a_writer_that_left_out_the_checksums_of_members_is_believed(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(CONTENT, tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert load_archive(tmp_path / "x.pt")["step"] == 3


def test_code_that_belongs_to_a_file(tmp_path: Path) -> None:
    file = io.BytesIO()
    torch.save(CONTENT, file)
    close(file, "the code")
    path = tmp_path / "x.pt"
    path.write_bytes(file.getvalue())
    assert fault(path) is None and fault(path, "the code") is None
    assert fault(path, "the c0de") == "the code beside it is not the code that it was exported with"


def test_what_has_no_place_for_a_seal() -> None:
    for content in (b"", b"text", b"PK\5\6" + b"\0" * 17 + b"\1"):
        with pytest.raises(ValueError, match="no seal to close"):
            close(io.BytesIO(content))


def test_a_blank_seal_is_closed_where_it_stands(tmp_path: Path) -> None:
    file = io.BytesIO(f"head {blank()} tail".encode())
    close(file)
    path = tmp_path / "x"
    path.write_bytes(file.getvalue())
    assert len(file.getvalue()) == len(f"head {blank()} tail") and fault(path) is None
    path.write_bytes(file.getvalue().replace(b"tail", b"tall"))
    assert fault(path) == "its checksum is wrong, so the file is damaged"
