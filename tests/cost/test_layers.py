"""The layers of a model, their operations and the sizes of what they read and write."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import campfire_fx
from campfire_fx.cost import work_of
from campfire_fx.cost.modules import module_costs
from tests.cost.worked import MACS, Worked, worked


def test_counts_worked_by_hand() -> None:
    work = worked()
    assert {layer.name: layer.macs for layer in work.layers} == MACS
    assert {layer.name: (layer.inputs, layer.outputs) for layer in work.layers} == {
        "stem": (192, 128), "grouped": (128, 256), "fc": (4, 5),
    }  # fmt: skip
    assert work.macs == sum(MACS.values()) and work.other_macs == 0
    assert {layer.name: layer.weights for layer in work.layers} == {"stem": 54, "grouped": 4, "fc": 20}


def test_the_stem_is_what_runs_first_and_what_never_runs_is_no_layer() -> None:
    assert [(layer.name, layer.stem) for layer in worked().layers] == [
        ("stem", True),
        ("grouped", False),
        ("fc", False),
    ]


def test_counts_are_of_all_samples() -> None:
    three = work_of(Worked(), (torch.zeros(3, 3, 8, 8),))
    assert three.macs == 3 * worked().macs
    assert [layer.inputs for layer in three.layers] == [3 * layer.inputs for layer in worked().layers]


def test_a_layer_that_runs_twice_counts_twice() -> None:
    layer = nn.Linear(4, 4)
    (found,) = work_of(nn.Sequential(layer, layer), (torch.zeros(1, 4),)).layers
    assert (found.macs, found.inputs, found.outputs) == (32, 8, 8)


class Decides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc(x)
        return x if bool(x.sum() > 0) else x @ x.T


def test_a_model_that_needs_real_values_is_counted_once() -> None:
    model = Decides()
    nn.init.constant_(model.fc.bias, -1)
    work = work_of(model, (torch.zeros(2, 4),))
    assert [(layer.macs, layer.inputs) for layer in work.layers] == [(32, 8)]
    assert work.other_macs == 16


def test_a_sparse_model_counts_as_its_dense_one() -> None:
    inputs = (torch.zeros(1, 3, 8, 8),)
    sparse = campfire_fx.sparsify(Worked(), "window", sparsity=0.5, example_inputs=inputs).finalize()
    assert work_of(sparse, inputs) == worked()


def test_a_model_that_is_itself_a_layer() -> None:
    (found,) = work_of(nn.Linear(4, 5), (torch.zeros(1, 4),)).layers
    assert (found.name, found.macs, found.stem) == ("", 20, True)


def test_no_hook_stays_behind() -> None:
    model = Worked()
    work_of(model, (torch.zeros(1, 3, 8, 8),))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_modules_that_do_not_run_and_code_between_modules_are_told_apart() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
            self.auxiliary, self.scale = nn.Sequential(nn.Linear(4, 4)), nn.Parameter(torch.ones(4, 4))
            self.attend = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.block(x).flatten(2).transpose(1, 2)
            return self.attend(x, x, x, need_weights=False)[0] @ self.scale

    found = module_costs(Parts().eval(), (torch.randn(1, 3, 10, 10),))
    rows = {one.name: one for one in found.modules}
    assert list(rows) == ["block.0", "block.1", "block.2", "attend"]
    assert rows["block.0"].output == ((1, 4, 8, 8),) and rows["block.1"].keeps_shape
    assert rows["block.2"].output == ((1, 4, 4, 4),) and not rows["block.2"].keeps_shape
    assert rows["attend"].parameters == 4 * 4 * 4 + 4 * 4, "what it holds without calling it is its own"
    assert found.idle == ("auxiliary",)
    assert found.rest[0] == 4 * 4 + (4 * 4 + 4) and found.rest[1] == 16 * 4 * 4
    folded = module_costs(Parts().eval(), (torch.randn(1, 3, 10, 10),), depth=1)
    assert [one.name for one in folded.modules] == ["block", "attend"] and folded.rest == found.rest
