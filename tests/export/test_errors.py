"""What cannot be exported or loaded is refused in one sentence, and leaves everything as it was."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from campfire_fx.base.errors import ExportError
from campfire_fx.export import export, files, formats, load, onnx_file, safetensors, source
from tests.assertions import Snapshot, assert_untouched
from tests.export.nets import IMAGE, build

X = torch.randn(IMAGE)


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def assert_refused(tmp_path: Path, target: Any, words: str, model: Any = None, example: Any = X) -> None:
    """Exporting raises an error with these words, of one line, and changes neither the folder nor the model."""
    model = small() if model is None else model
    before = {file: file.read_bytes() if file.is_file() else None for file in tmp_path.rglob("*")}
    snapshot = Snapshot.of(model) if isinstance(model, nn.Module) else None
    with pytest.raises(ExportError, match=words) as caught:
        export(model, target, example)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert before == {file: file.read_bytes() if file.is_file() else None for file in tmp_path.rglob("*")}
    if snapshot is not None:
        assert_untouched(model, snapshot)


@pytest.mark.parametrize("suffix", ["", ".h5", ".py", ".PT3"])
def test_unknown_suffix_lists_the_known_ones(tmp_path: Path, suffix: str) -> None:
    assert_refused(
        tmp_path, tmp_path / f"it{suffix}", r"the suffix '.*' is not one of \.onnx, \.pt2, \.safetensors, \.pt"
    )


def test_missing_folder(tmp_path: Path) -> None:
    assert_refused(tmp_path, tmp_path / "no" / "it.pt", "there is no folder .*no. Make it first")


def test_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "it.pt").mkdir()
    assert_refused(tmp_path, tmp_path / "it.pt", "it is a folder")


def test_code_of_someone_else_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('mine')\n")
    assert_refused(
        tmp_path, tmp_path / "train.pt", r"train\.py: a file of that name exists that campfire_fx.export did"
    )


def test_code_that_would_hide_a_module_of_python_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    export(small(), tmp_path / "signal.pt", X)
    assert "hides the module signal" in caplog.text


def test_folder_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.tempfile, "TemporaryDirectory", refuse)
    assert_refused(
        tmp_path,
        tmp_path / "it.pt",
        r"File at .*it.pt: it cannot be written \(Permission denied\)\. Make room, or choose another place\.",
    )


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (small().state_dict(), "Model at OrderedDict: these are weights without code"),
        ("resnet18", "Model at str: 'resnet18' is a name"),
        (small().to("meta"), "Weights at 0.weight: they are on the meta device"),
    ],
)
def test_what_is_no_model(tmp_path: Path, model: Any, words: str) -> None:
    assert_refused(tmp_path, tmp_path / "it.pt", f"cannot export: {words}", model)


def test_what_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="^path: it is of type NoneType. Give the name of a file"):
        export(small(), None)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match=r"it is a checkpoint of campfire-fx train, .* campfire-fx export here.ckpt"):
        load("here.ckpt")


def test_example_that_does_not_fit(tmp_path: Path) -> None:
    wrong = torch.randn(1, 5, 8, 8)
    assert_refused(tmp_path, tmp_path / "it.pt", "does not run on the example inputs: RuntimeError", example=wrong)


def test_outputs_that_are_not_finite(tmp_path: Path) -> None:
    model = small()
    with torch.no_grad():
        model[0].weight[0] = float("nan")
    assert_refused(tmp_path, tmp_path / "it.pt2", "outputs on the example inputs are not finite", model)


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x + torch.randn_like(x))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt2"])
def test_model_that_draws_random_numbers_draws_the_same_from_the_same_seed(tmp_path: Path, suffix: str) -> None:
    model, before = Noisy().eval(), torch.get_rng_state()
    export(model, tmp_path / f"it{suffix}", X)
    assert torch.equal(torch.get_rng_state(), before)
    for other in (model, load(tmp_path / f"it{suffix}")):
        torch.manual_seed(7)
        found = other(X)
        if other is model:
            expected = found
    assert torch.allclose(found, expected, atol=1e-6) and not torch.allclose(model(X), expected, atol=1e-3)


def test_model_whose_random_numbers_another_runtime_draws(tmp_path: Path) -> None:
    assert_refused(tmp_path, tmp_path / "it.onnx", "Check the model for randomness", Noisy())


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.calls = nn.Conv2d(3, 4, 3), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.conv(x) * self.calls


@pytest.mark.parametrize(
    ("suffix", "words"),
    [
        (".safetensors", r"Counter at test_errors.py:\d+: forward\(\) computes with calls, which changes"),
        (".pt2", "relative difference|differs from the model by"),
    ],
)
def test_model_that_never_answers_twice_alike(tmp_path: Path, suffix: str, words: str) -> None:
    assert_refused(tmp_path, tmp_path / f"it{suffix}", words, Counting())


def test_file_that_answers_otherwise_is_not_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check after writing sees a single weight that is off by 0.1 %, and an old file survives it."""
    export(small(), tmp_path / "it.safetensors", X)
    dumps = safetensors.write_safetensors

    def corrupt(tensors: dict[str, torch.Tensor], *given: Any) -> None:
        weight = tensors["0.weight"].clone()
        weight[0, 0, 0, 0] *= 1.001
        dumps({**tensors, "0.weight": weight}, *given)

    monkeypatch.setattr(formats, "write_safetensors", corrupt)
    assert_refused(tmp_path, tmp_path / "it.safetensors", "gives other outputs than the model: relative difference")
    faint = small()
    with torch.no_grad():
        faint[1].weight.mul_(1e-6)  # as a detector that sees nothing
    words = "No entry of an output exceeds .*e-06 on the example, so rounding counts: give inputs that it answers"
    assert_refused(tmp_path, tmp_path / "it.safetensors", words, model=faint)


def test_file_that_fails_where_the_model_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_padding(*given: Any) -> str:
        return source.model_source(*given).replace(", padding=1", "")

    monkeypatch.setattr(formats, "model_source", without_padding)
    model, args = build("residual")
    assert_refused(tmp_path, tmp_path / "it.pt", r"the \.pt file fails where the model runs: RuntimeError", model, args)


@pytest.mark.parametrize("package", ["onnxscript", "onnxruntime"])
def test_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    real = importlib.import_module

    def fake(name: str) -> Any:
        if name == package:
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(onnx_file.importlib, "import_module", fake)
    words = rf'package {package} is needed .* Run pip install "onnx>=[\d.]+" "onnxruntime>='
    assert_refused(tmp_path, tmp_path / "it.onnx", words)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) if x.sum() > 0 else self.conv(-x)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_control_flow_on_data(tmp_path: Path, suffix: str) -> None:
    assert_refused(tmp_path, tmp_path / f"it{suffix}", "torch.export cannot take this model", Branching())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_model_of_which_nothing_can_be_captured(tmp_path: Path, suffix: str) -> None:
    assert_refused(tmp_path, tmp_path / f"it{suffix}", "no torch-only code for this model", Branching())


def test_model_that_cannot_be_copied(tmp_path: Path) -> None:
    model = small()
    model.lock = threading.Lock()
    assert_refused(tmp_path, tmp_path / "it.pt", "the model cannot be copied: TypeError", model)


def test_loading_what_is_not_there_or_not_ours(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="there is no such file"):
        load(tmp_path / "it.pt")
    with pytest.raises(ExportError, match="is not one of"):
        load(tmp_path / "it.bin")
    torch.save(small().state_dict(), tmp_path / "it.pt")
    with pytest.raises(ExportError, match=r"there is no model code written by campfire_fx.export at .*it\.py"):
        load(tmp_path / "it.pt")
    (tmp_path / "it.py").write_text("raise SystemExit('never run')\n")
    with pytest.raises(ExportError, match="no model code written by campfire_fx"):
        load(tmp_path / "it.pt")


@pytest.mark.parametrize("suffix", [".pt2", ".onnx", ".pt", ".safetensors"])
def test_loading_a_damaged_file(tmp_path: Path, suffix: str) -> None:
    if suffix in (".pt", ".safetensors"):
        export(small(), tmp_path / f"it{suffix}", X)
    (tmp_path / f"it{suffix}").write_bytes(b"damaged")
    with pytest.raises(ExportError, match=r"it\.\w+"):
        load(tmp_path / f"it{suffix}")


def test_files_of_two_exports_mixed_up(tmp_path: Path) -> None:
    export(small(), tmp_path / "it.safetensors", X)
    model, args = build("residual")
    export(model, tmp_path / "it.pt", args)
    with pytest.raises(ExportError, match=r"Check that it and it\.py come from the same export"):
        load(tmp_path / "it.safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pt2"])
def test_the_model_given_is_left_as_it_is(tmp_path: Path, suffix: str) -> None:
    model, args = build("shared")
    model.train()
    model.twice.eval()
    model.stem.weight.grad = torch.ones_like(model.stem.weight)
    snapshot = Snapshot.of(model)
    export(model, tmp_path / f"it{suffix}", args)
    assert_untouched(model, snapshot)
