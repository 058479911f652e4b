"""What cannot be captured is refused in one sentence that names the line; the model stays as it was."""

from __future__ import annotations

import pickle
import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from campfire_fx.base.errors import CaptureError
from campfire_fx.capture import trace
from tests.capture.habits import Base
from tests.capture.test_habits import X
from tests.snapshot import Snapshot, assert_untouched


class BranchOnData(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.sum() > 0 else x  # here


class ItemOfData(Base):
    def forward(self, x: Tensor) -> Tensor:
        n = self.conv(x).argmax().item()
        return x[:, : int(n) % 3] if n > 3 else x  # here


class IndexByData(Base):
    def forward(self, x: Tensor) -> Tensor:
        for i in range(x.argmax()):  # here
            x = x + i
        return self.conv(x)


class LengthOfData(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * sum(1 for _ in x[x > 0])  # here


class TrainedParameter(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if self.conv.bias.sum() > 0 else x  # here


class CountedBuffer(Base):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        return self.conv(x) if self.steps < 10 else x  # here


class RandomBranch(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if torch.rand(1) < 0.5 else x  # here


class NumpyOfTensor(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * float(np.asarray(x).sum())  # here


class ChangedLeaf(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.conv.stride = (2, 2)  # here
        return self.conv(x)


class ReplacedData(Base):
    def forward(self, x: Tensor) -> Tensor:
        x.data = x * 2  # here
        return self.conv(x)


class Inference(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            y = self.conv(x)  # here
        return y + 1


class Pickling(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(pickle.loads(pickle.dumps(x)))  # here


class ForeignFunction(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).apply_(lambda value: value)  # here


class PythonRandom(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if random.random() < 2 else x


class NumpyRandom(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * float(np.random.rand())


WITH_LINE = {
    BranchOnData: "Control flow at refusals:LINE: bool((x.sum() > 0)) depends on the data of a tensor",
    ItemOfData: "which shapes alone do not tell",
    IndexByData: "Control flow at refusals:LINE: int(x.argmax()) depends on the data of a tensor",
    LengthOfData: "which shapes alone do not tell",
    TrainedParameter: "bool((conv.bias.sum() > 0)) depends on the data of a tensor",
    CountedBuffer: "depends on the data of a tensor",
    RandomBranch: "bool((rand(1) < 0.5)) depends on the data of a tensor",
    NumpyOfTensor: "numpy.asarray(x) depends on the data of a tensor",
    ChangedLeaf: "forward() changes 'stride' of conv",
    ReplacedData: "x.data = ... changes a tensor behind the graph's back",
    Inference: "torch.inference_mode() at refusals:LINE",
    Pickling: "Keep files and processes out of forward()",
    ForeignFunction: "cannot be captured",
}


@pytest.mark.parametrize("model", WITH_LINE, ids=lambda cls: cls.__name__)
def test_the_line_is_named(model: type[nn.Module]) -> None:
    text = WITH_LINE[model]
    message = refusal(model())
    line = line_marked(model)
    assert f"test_refusals.py:{line}" in message
    assert text.replace("refusals:LINE", f"test_refusals.py:{line}") in message


@pytest.mark.parametrize("model", [PythonRandom, NumpyRandom])
def test_random_draws_of_python_are_refused_and_undone(model: type[nn.Module]) -> None:
    made = model()
    states = random.getstate(), np.random.get_state()[2], torch.get_rng_state()
    message = refusal(made)
    assert re.match(
        rf"Random numbers at test_refusals.py:\d+: {model.__name__}.forward draws them outside of torch operations",
        message,
    )
    assert random.getstate() == states[0] and np.random.get_state()[2] == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.mark.parametrize("example", [torch.randn(2, 4, 8, 8), torch.randn(2, 3), torch.zeros(2, 3, 8, 8).long()])
def test_an_example_that_does_not_fit(example: Tensor) -> None:
    message = refusal(Base2(), example)
    assert re.match(
        r"Example inputs at Base2 \(test_refusals\.py:\d+\): the model does not run on \((float32|int64) [\dx]+\): "
        r".+\. Give example_inputs=\.\.\. that it runs on\.$",
        message,
    ), message


def test_an_image_too_small_is_an_example_that_does_not_fit() -> None:
    assert "the model does not run on (float32 1x3x4x4)" in refusal(Deep(), torch.randn(1, 3, 4, 4))


@pytest.mark.parametrize("example", [(X, X), {"image": X, "y": X}, ()])
def test_an_example_that_does_not_match_the_signature(example: Any) -> None:
    message = refusal(Base2(), example)
    assert message.startswith("Example inputs at Base2.forward(x: 'Tensor') -> 'Tensor': ")
    assert message.endswith("Give example_inputs=... as it is called.")


def test_a_lazy_layer() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU())
    assert refusal(model) == ("Lazy layer at 0: it has no weights yet. Run the model once before it is captured.")


class Base2(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Deep(Base):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.max_pool2d(nn.functional.avg_pool2d(self.conv(x), 3), 3)


def refusal(model: nn.Module, example: Any = X) -> str:
    """Trace a model that cannot be, check that it stays as it was, and return the message."""
    snapshot = Snapshot.of(model) if not isinstance(model, nn.Sequential) else None  # of lazy layers
    with pytest.raises(CaptureError) as error:
        trace(model, example)
    if snapshot is not None:
        assert_untouched(model, snapshot)
    message = str(error.value)
    assert "\n" not in message and message.endswith(".")
    return message


def line_marked(model: type[nn.Module]) -> int:
    import inspect

    lines, first = inspect.getsourcelines(model.forward)
    return first + next(i for i, line in enumerate(lines) if line.rstrip().endswith("# here"))
