"""Every file that is read, truncated, with bits flipped, or exchanged: an error by name, or what was in it."""

from __future__ import annotations

import importlib.util
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import campfire_fx
from campfire_fx.app.runs.folder import read_results
from campfire_fx.app.train.checkpoint import Checkpoint, read, read_tensors, restore, save
from campfire_fx.app.train.checkpoint_manager import CheckpointManager, Every
from campfire_fx.app.train.training_log import read_log
from campfire_fx.base.errors import CampfireError
from campfire_fx.report.attack_record import AttackRecord

X = torch.randn(2, 1, 8, 8)
SPARSE = {"regime": "ck", "sparsity": 0.5, "era": (0, 2)}


def net(scale: float = 1.0, stride: int = 1) -> nn.Module:
    torch.manual_seed(int(scale))
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=stride), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()


def sparse_net() -> campfire_fx.SparseModel:
    from campfire_fx.app.train.networks import resnet8

    torch.manual_seed(0)
    return campfire_fx.sparsify(resnet8(classes=3, channels=1), example_inputs=X[:1], **SPARSE).eval()


@dataclass(frozen=True)
class Kind:
    """A kind of file: `write` makes one at a path, `read` returns what it holds, as tensors to compare."""

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], list[torch.Tensor]]
    costs: int = 1


def exported(path: Path) -> list[torch.Tensor]:
    return [campfire_fx.load(path)(X)]


def checkpoint(path: Path) -> None:
    options = {"classes": 3, "channels": 1}
    save(Checkpoint("resnet8", options, (1, 1, 8, 8), SPARSE, sparse_net().state_dict()), path)


def run_checkpoint(path: Path) -> None:
    written = CheckpointManager(path.parent / "run", {}, Every(steps=1)).save("net", 1, {"model": net().state_dict()})
    written.replace(path)


def read_run_checkpoint(path: Path) -> list[torch.Tensor]:
    place = path.parent / "run" / "checkpoints"
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, place / "net-000000001.ckpt")
    content = CheckpointManager(path.parent / "run", {}, Every(steps=1)).restore("net")
    assert content is not None
    return list(content["model"].values())


KINDS = [
    Kind(".ckpt", checkpoint, lambda path: list(read(path).state.values())),
    Kind("run.ckpt", run_checkpoint, read_run_checkpoint),
    Kind(".pt", lambda path: campfire_fx.export(net(), path, X), exported),
    Kind(".safetensors", lambda path: campfire_fx.export(net(), path, X), exported),
    Kind("tensors.safetensors", lambda path: campfire_fx.export(net(), path, X),
         lambda path: list(read_tensors(path).values())),
    Kind(".pt2", lambda path: campfire_fx.export(net(), path, X), exported, costs=10),
]  # fmt: skip
if importlib.util.find_spec("onnxruntime"):
    KINDS.append(Kind(".onnx", lambda path: campfire_fx.export(net(), path, X), exported))


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Kind, Path, Any]:
    kind: Kind = request.param
    path = tmp_path_factory.mktemp("whole") / f"it{kind.name}"
    kind.write(path)
    return kind, path, kind.read(path)


def spoilt(content: bytes, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield the content spoilt in so many ways of each sort: bits near both ends and anywhere, and parts of it."""
    draw = random.Random(0)
    size = len(content)
    places = [*(draw.randrange(min(400, size)) for _ in range(count)), *(draw.randrange(size) for _ in range(count))]
    places += [size - 1 - draw.randrange(min(400, size)) for _ in range(count)]
    for place in places:
        bit = draw.randrange(8)
        yield f"bit {bit} of {place}", content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
    for keep in (0, 1, 8, 100, size // 2, size - 1, *(draw.randrange(size) for _ in range(count))):
        yield f"{keep} bytes", content[:keep]
    yield "zeros", bytes(size)
    yield "zeros in the middle", content[: size // 2] + bytes(64) + content[size // 2 + 64 :]
    yield "more", content + b"\0more"


def outcome(read: Callable[[], Any]) -> tuple[Any, str | None]:
    """What reading gives, or the text of the error by name that it raises."""
    try:
        return read(), None
    except CampfireError as error:
        return None, str(error)


def assert_named_or_right(kind: Kind, path: Path, expected: list[torch.Tensor], how: str) -> bool:
    """Reading gives what was there, or raises an error of this library in one sentence; whether it raised."""
    found, told = outcome(lambda: kind.read(path))
    if told is not None:
        assert "\n" not in told and told.endswith("."), (how, told)
        return True
    assert len(found) == len(expected) and all(map(torch.equal, found, expected)), how
    return False


def test_a_spoilt_file_is_named_or_gives_what_was_in_it(
    whole: tuple[Kind, Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, source, expected = whole
    for beside in source.parent.glob("it*.py"):
        shutil.copy(beside, tmp_path)
    path = tmp_path / source.name
    named = [
        path.write_bytes(content) and assert_named_or_right(kind, path, expected, how)
        for how, content in spoilt(source.read_bytes(), 40 // kind.costs)
    ]
    assert sum(map(bool, named)) > 0.8 * len(named)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_bit_of_the_code_beside_the_weights(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"it{suffix}"
    campfire_fx.export(net(), path, X)
    code = (tmp_path / "it.py").read_bytes()
    draw = random.Random(0)
    for place in draw.sample(range(len(code)), 60):
        spoilt_code = code[:place] + bytes([code[place] ^ 1 << draw.randrange(7)]) + code[place + 1 :]
        (tmp_path / "it.py").write_bytes(spoilt_code)
        with pytest.raises(campfire_fx.CampfireError, match=r"cannot load .*it\."):
            campfire_fx.load(path)
    (tmp_path / "it.py").write_bytes(code.replace(b"\n", b"\r\n"))  # as a version control may do
    campfire_fx.load(path)


def test_weights_of_another_model_with_the_same_shapes(tmp_path: Path) -> None:
    """Code and weights of two exports: the stride is in the code."""
    for name, stride in (("a", 1), ("b", 2)):
        campfire_fx.export(net(stride=stride), tmp_path / f"{name}.safetensors", X)
    shutil.copy(tmp_path / "b.safetensors", tmp_path / "a.safetensors")
    with pytest.raises(CampfireError, match="the code beside it is not the code that it was exported with"):
        campfire_fx.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pt2", ".safetensors", ".onnx"])
def test_files_of_one_kind_under_the_name_of_another(tmp_path: Path, suffix: str) -> None:
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
    contents = [b"", b"\x80\x04.", b'{"a": 1}', b"network,epoch\n"]
    for kind in KINDS:
        kind.write(tmp_path / f"from{kind.name}")
        if not kind.name.endswith(suffix):
            contents.append((tmp_path / f"from{kind.name}").read_bytes())
    path = tmp_path / f"it{suffix}"
    shutil.copy(tmp_path / "from.py", tmp_path / "it.py")
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(CampfireError) as caught:
            read(path) if suffix == ".ckpt" else campfire_fx.load(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [
    {"options": [1]}, {"options": {"classes": "three"}}, {"options": {"no_such": 1}}, {"options": {1: 2}},
    {"shape": "big"}, {"shape": (1, -1, 8, 8)}, {"shape": 3}, {"shape": ()}, {"shape": (1, 1)}, {"sparse": 7},
    {"sparse": {"era": "soon"}}, {"sparse": {"no_such": 1}}, {"sparse": {"sparsity": None}},
    {"state": [1]}, {"state": {"conv1.weight": "x"}}, {"state": {}}, {"model": 5}, {"model": ""}, {"campfire_fx": 99},
], ids=str)  # fmt: skip
def test_a_checkpoint_that_holds_something_else(tmp_path: Path, wrong: dict[str, Any]) -> None:
    path = tmp_path / "it.ckpt"
    checkpoint(path)
    torch.save(torch.load(path) | wrong, path)
    with pytest.raises(CampfireError) as caught:
        restore(read(path))
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_saved_schedule_with_a_bit_flipped() -> None:
    model = sparse_net()
    state = model.state_dict()
    whole_course = state["_extra_state"].clone()
    size = len(bytes(whole_course.tolist()).rstrip())
    draw, named = random.Random(0), 0
    for place in draw.sample(range(size), 60):
        state["_extra_state"] = whole_course.clone()
        state["_extra_state"][place] ^= 1 << draw.randrange(7)
        _, told = outcome(lambda: model.load_state_dict(state))
        named += told is not None
        assert told is None or ("_extra_state" in told and "\n" not in told)
        assert torch.equal(model.state_dict()["_extra_state"], whole_course)  # also where the checksum's name was hit
    assert named > 50


@pytest.mark.parametrize(("name", "text", "read"), [
    ("results.json", '{"rows": [{"name": "dense", "right": 3}], "settings": {}}',
     lambda path: read_results(path.parent)),
    ("log.csv", "network,epoch,loss\nsparse,0,2.5\nsparse,1,1.5\n", read_log),
    ("attack.json", '{"epsilons": [0, 1], "space": "raw", "images": 3, "curves": []}',
     lambda path: AttackRecord.from_json(path.read_bytes())),
])  # fmt: skip
def test_texts_of_a_run(tmp_path: Path, name: str, text: str, read: Callable[[Path], Any]) -> None:
    """What is still such a text is taken, and is no checksum's business; what is none is an error by name."""
    path = tmp_path / name
    path.write_text(text)
    read(path)
    for how, content in spoilt(text.encode(), 60):
        path.write_bytes(content)
        _, told = outcome(lambda: read(path))
        assert told is None or "\n" not in told, how
