"""A .pt2 file runs nothing that it brings: what torch would unpickle, load or evaluate is left behind or refused."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx.base.errors import ExportError
from campfire_fx.export import export, load

RAN = "ran"


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "it was run")


class Sizes(nn.Module):
    """A model whose program holds expressions of sizes, guards, constants, and structures of inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.register_buffer("scale", torch.ones(4, 1, 1), persistent=False)

    def forward(self, x: Tensor, more: dict[str, Tensor]) -> dict[str, Any]:
        y = self.conv(x) * self.scale
        h, w = y.shape[2:]
        small = F.interpolate(y, size=(h // 2, w // 2 + 1))
        return {"y": y, "rest": (small.flatten(2)[:, :, : (h * w) // 8], more["e"] * h)}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "it.pt2"
    export(Sizes().eval(), path, (torch.randn(2, 3, 12, 12), {"e": torch.randn(2, 3)}))
    return path


def changed(written: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Write the archive anew, its members changed, without a seal."""
    with zipfile.ZipFile(written) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)
    return target


def text_changed(old: str, new: str) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        text = members["models/model.json"].decode()
        assert old in text
        members["models/model.json"] = text.replace(old, new).encode()

    return change


def test_the_program_is_what_was_written_and_free_in_size(written: Path) -> None:
    model = load(written)
    found = model(torch.randn(3, 3, 16, 20), {"e": torch.ones(3, 3)})
    assert found["y"].shape == (3, 4, 16, 20) and found["rest"][1].mean() == 16


def test_sample_inputs_are_left_behind_unread(written: Path, tmp_path: Path) -> None:
    """torch.export.load runs what they hold."""
    pickled = io.BytesIO()
    torch.save(Bomb(tmp_path / RAN), pickled)
    path = changed(
        written,
        tmp_path / "it.pt2",
        lambda members: members.update({"data/sample_inputs/model.pt": pickled.getvalue()}),
    )
    load(path)
    assert not (tmp_path / RAN).exists()
    with contextlib.suppress(Exception):
        torch.export.load(path)
    assert (tmp_path / RAN).exists()  # so the test can fail


def test_a_file_of_torch_export_itself_is_read_without_its_sample_inputs(tmp_path: Path) -> None:
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), torch.randn(2, 3, 8, 8)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "it.pt2", extra_files={"note": "text"})
    assert torch.equal(load(tmp_path / "it.pt2")(x), model(x))


@pytest.mark.parametrize("name", [
    "data/weights/model.pt", "data/constants/custom_obj_0", "data/constants/opaque_obj_0",
    "data/aotinductor/model/model.so", "data/weights/../x", "models/other.json", "version",
])  # fmt: skip
def test_a_member_that_no_program_of_tensors_needs_is_refused(written: Path, tmp_path: Path, name: str) -> None:
    path = changed(
        written, tmp_path / "it.pt2", lambda members: members.update({name: pickle.dumps(Bomb(tmp_path / RAN))})
    )
    with pytest.raises(
        ExportError, match=r"it holds 'archive/.*', and that could run code. If you trust it, use torch"
    ):
        load(path)
    assert not (tmp_path / RAN).exists()


def test_a_pickled_weight_is_refused(written: Path, tmp_path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        facts = json.loads(members["data/weights/model_weights_config.json"])
        facts["config"]["conv.bias"]["use_pickle"] = True
        members["data/weights/model_weights_config.json"] = json.dumps(facts).encode()
        members["data/weights/weight_1"] = pickle.dumps(Bomb(tmp_path / RAN))

    with pytest.raises(ExportError, match="a tensor in it is pickled, and that could run code"):
        load(changed(written, tmp_path / "it.pt2", change))
    assert not (tmp_path / RAN).exists()


CODE = "__import__('pathlib').Path('ran').write_text('x')"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"torch.ops.aten.conv2d.default"', '"torch.serialization.os.system"'),
        ('"torch.ops.aten.conv2d.default"', '"torch.ops.load_library.__call__"'),
        ('"torch.ops.aten.conv2d.default"', '"_operator.attrgetter"'),
        ('"expr_str": "Symbol(', f'"expr_str": "{CODE} or Symbol('),
        ('"expr_str": "Symbol(', '"expr_str": "(lambda: 1)() * Symbol('),
        ('"expr_str": "Symbol(', '"expr_str": "S(\'open(1)\') + Symbol('),
        ('"expr_str": "Symbol(', '"expr_str": "open(\'ran\') or Symbol('),
        ('"guards_code": [', f'"guards_code": ["{CODE}", '),
        ('"guards_code": [', '"guards_code": ["L.__class__", '),
        ('"name": "x"', f'"name": "x={CODE}"'),
        ('"buffer_name": "scale"', '"buffer_name": "\\")(1)"'),
        ('\\"builtins.tuple\\"', '\\"__enum__\\"'),
        ('\\"context\\": \\"null\\"', '\\"context\\": \\"default_factory_module\\"'),
    ],
)
def test_a_text_that_torch_would_evaluate_is_refused(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = changed(written, tmp_path / "it.pt2", text_changed(old, new))
    with pytest.raises(ExportError, match=r"stands in it for .*, and that could run code") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / RAN).exists()


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"text", b"\0" * 500])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "it.pt2").write_bytes(content)
    with pytest.raises(ExportError, match=r"cannot load .*it.pt2: it is not a "):
        load(tmp_path / "it.pt2")


def test_two_members_of_one_name(written: Path, tmp_path: Path) -> None:
    """Readers differ in which of the two they take."""
    path = changed(written, tmp_path / "it.pt2", lambda _: None)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/byteorder", "big")
    with pytest.raises(ExportError, match="two members of the archive have one name"):
        load(path)
