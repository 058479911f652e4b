"""Exported files run in a process of their own that cannot import campfire_fx."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

from campfire_fx.export import export
from tests.export.nets import NETS, REAL, build

# Converting to .onnx and .pt2 takes seconds: a few of each, among them one of real size.
FILES = (
    *(f"{name}.safetensors" for name in (*NETS, *REAL)),
    *(f"{name}.pt" for name in ("chain", "functional")),
    *(f"{name}.pt2" for name in ("named", "shared", "columns", "groups", "resnet18")),
    *(f"{name}.onnx" for name in ("branches", "named", "columns", "groups", "mobilenet_v3_small")),
)

SCRIPT = """
import importlib.util, json, pathlib, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("campfire_fx", "safetensors"):
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Blocker())
folder = pathlib.Path(sys.argv[1])
import torch
from torch.utils import _pytree as pytree

def from_code(path):
    spec = importlib.util.spec_from_file_location("generated", path.with_suffix(".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(path)

def from_onnx(path):
    import onnxruntime
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    def run(*args):
        feeds = {name: tensor.numpy() for name, tensor in zip(names, args)}
        return [torch.from_numpy(found) for found in session.run(None, feeds)]
    return run

readers = {".pt2": lambda path: torch.export.load(path).module(), ".onnx": from_onnx}
found = {}
for path in sorted(folder.iterdir()):
    if path.suffix in (".py", ".runs"):
        continue
    try:
        model = readers.get(path.suffix, from_code)(path)
        worst = 0.0
        for args, expected in torch.load(path.with_name(path.name + ".runs"), weights_only=True):
            with torch.no_grad():
                outputs = pytree.tree_leaves(model(*args))
            assert [a.shape for a in expected] == [b.shape for b in outputs], "shapes"
            assert all(b.isfinite().all() for b in outputs), "finite"
            worst = max([worst, *(float((a - b).abs().max() / a.abs().max()) for a, b in zip(expected, outputs))])
        found[path.name] = worst
    except Exception as error:
        found[path.name] = repr(error)
assert "campfire_fx" not in sys.modules
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Export every file, run all of them in one fresh process, and return what each differed by."""
    folder = tmp_path_factory.mktemp("exported")
    for file in FILES:
        model, args = build(Path(file).stem)
        with torch.no_grad():
            other = pytree.tree_map(lambda tensor: torch.randn(3, *tensor.shape[1:]), args)
            runs = [(inputs, pytree.tree_leaves(model(*inputs))) for inputs in (args, other)]
        torch.save(runs, folder / f"{file}.runs")
        export(model, folder / file, args)
    command = [sys.executable, "-I", "-c", SCRIPT, str(folder)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("file", FILES)
def test_file_answers_like_the_model_at_two_batch_sizes(found: dict[str, Any], file: str) -> None:
    assert isinstance(found[file], float), found[file]
    assert found[file] <= 1e-5
