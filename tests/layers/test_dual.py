"""DualGraphModule: two graphs over one set of modules, and everything a module can do."""

from __future__ import annotations

import copy
import io
import operator
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from campfire_fx.capture import trace
from campfire_fx.layers.dual import DualGraphModule
from tests.capture import habits
from tests.capture.checks import assert_trains_alike, same
from tests.capture.test_habits import X


class Auxiliary(nn.Module):
    """A head that only training uses, a batch norm, a functional dropout, a shared and an unused layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = self.features[0]
        self.aux = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        self.unused = nn.Linear(2, 2)
        self.register_buffer("temporary", torch.ones(1), persistent=False)

    def forward(self, x: torch.Tensor) -> Any:
        x = F.dropout(self.features(x), 0.5, self.training) * self.temporary
        return (x, self.aux(x)) if self.training else x


def test_each_mode_runs_its_graph() -> None:
    model = Auxiliary()
    module = trace(model, X).module
    assert module.train_graph is not None
    assert not any(node.target == "aux.2" for node in module.graph.nodes)
    assert any(node.target == "aux.2" for node in module.train_graph.nodes)
    assert isinstance(module.train()(X), tuple) and isinstance(module.eval()(X), torch.Tensor)
    assert_trains_alike(module, model, X)


def test_one_graph_where_both_modes_are_the_same() -> None:
    assert trace(habits.BranchOnSize(), X).module.train_graph is None


def test_parameters_and_names_are_the_models_own() -> None:
    model = Auxiliary()
    module = trace(model, X).module
    assert list(module.state_dict()) == list(model.state_dict())
    assert "head.weight" in module.state_dict() and "unused.weight" in module.state_dict()
    for (name, mine), (other, theirs) in zip(module.named_parameters(), model.named_parameters(), strict=True):
        assert name == other and mine is theirs
    assert [name for name, _ in module.named_buffers()] == [name for name, _ in model.named_buffers()]
    assert module.head is module.features[0]
    fresh = Auxiliary()
    module.load_state_dict(fresh.state_dict())
    assert torch.equal(model.unused.weight, fresh.unused.weight)


def test_training_flags_of_single_layers_survive() -> None:
    model = Auxiliary().train()
    model.features[1].eval()
    module = trace(model, X).module
    assert module.training and not module.features[1].training
    before = module.features[1].running_mean.clone()
    module(X)
    assert torch.equal(module.features[1].running_mean, before)


def test_frozen_functional_norms_stay_frozen_in_training() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), habits.NormAct(4)).train()
    model[1].eval()
    module = trace(model, X).module.train()
    before = model[1].running_mean.clone()
    module(X)
    assert torch.equal(model[1].running_mean, before)


@pytest.mark.parametrize("name", ["deepcopy", "pickle", "save"])
def test_copies_are_whole_and_apart(name: str) -> None:
    module = trace(Auxiliary().eval(), X).module
    copied = {"deepcopy": copy.deepcopy, "pickle": _pickled, "save": _saved}[name](module)
    assert isinstance(copied, DualGraphModule)
    assert same(copied(X), module(X))
    assert_trains_alike(copied, module, X)
    assert list(copied.state_dict()) == list(module.state_dict())
    assert copied.head is copied.features[0]
    assert not {p.data_ptr() for p in copied.parameters()} & {p.data_ptr() for p in module.parameters()}
    # Editing the copy leaves the original alone.
    for graph in (copied.graph, copied.train_graph):
        output = next(iter(reversed(graph.nodes)))
        with graph.inserting_before(output):
            doubled = graph.call_function(operator.mul, (output.all_input_nodes[0], 2))
        output.args = (doubled,)
    copied.recompile()
    assert same(copied(X), module(X) * 2)
    assert isinstance(module.train()(X), tuple) and isinstance(copied.train()(X), torch.Tensor)


@pytest.mark.parametrize("name", ["SetItems", "Outputs", "OwnFunctions", "Factories", "Wrapped", "InPlace", "Autocast"])
def test_graphs_with_unusual_targets_can_be_pickled(name: str) -> None:
    module = trace(getattr(habits, name)().eval(), X).module
    copied = _pickled(module)
    assert same(copied(X), module(X))
    assert_trains_alike(copied, module, X)


def test_a_saved_module_loads_in_a_fresh_process(tmp_path: Path) -> None:
    module = trace(Auxiliary().eval(), X).module
    torch.save({"module": module, "x": X, "y": module(X)}, tmp_path / "saved.pt")
    code = (
        "import torch; s = torch.load('saved.pt', weights_only=False);"
        "assert torch.equal(s['module'](s['x']), s['y']); assert len(s['module'].train()(s['x'])) == 2"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_it_compiles() -> None:
    module = trace(Auxiliary().eval(), X).module
    compiled = torch.compile(module, backend="eager")
    assert torch.allclose(compiled(X), module(X))
    module.train()
    assert isinstance(compiled(X), tuple)


def test_it_exports() -> None:
    module = trace(Auxiliary().eval(), X).module
    exported = torch.export.export(module, (X,))
    assert torch.allclose(exported.module()(X), module(X))


def test_it_can_be_captured_again() -> None:
    module = trace(Auxiliary().eval(), X).module
    again = trace(module, X).module
    assert same(again(X), module(X)) and again.train_graph is not None
    assert_trains_alike(again, module, X)


def test_assigning_graphs_takes_effect() -> None:
    module = trace(Auxiliary().eval(), X).module
    graph = fx.Graph()
    graph.output(graph.placeholder("x"))
    module.train_graph = graph
    assert module.train()(X) is X
    module.train_graph = None
    assert isinstance(module(X), torch.Tensor) and module(X).shape[1] == 4


def _pickled(module: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(module))


def _saved(module: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)
