"""Example inputs: every form is brought to one, and a guess is one that the model runs on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import campfire_fx
from campfire_fx.base.errors import CampfireError, CaptureError
from campfire_fx.capture import example_for, trace


class Net(nn.Module):
    """Takes what `check` lets pass."""

    def __init__(self, layer: nn.Module, **attributes: Any) -> None:
        super().__init__()
        self.layer = layer
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def flat(channels: int, size: int) -> nn.Sequential:
    """A network of one image size."""
    return nn.Sequential(nn.Conv2d(channels, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * size * size, 3))


def guessed(model: nn.Module) -> tuple[int, ...]:
    args, kwargs = example_for(model)
    assert not kwargs
    model.eval()(*args)
    return tuple(args[0].shape)


def test_forms() -> None:
    x, y = torch.rand(1), torch.rand(2)

    class Two(nn.Module):
        def forward(self, x: Any, y: Any = None) -> Any:
            return x

    model = Two()
    assert example_for(model, x) == ((x,), {})
    assert example_for(model, (x, y)) == ((x, y), {})
    assert example_for(model, {"x": x, "y": y}) == ((), {"x": x, "y": y})
    assert example_for(model, [x, y]) == (([x, y],), {})
    assert example_for(model, {"a": x}) == (({"a": x},), {})
    assert example_for(model, {1: x}) == (({1: x},), {})


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Conv2d(3, 2, 3)), (2, 3, 224, 224)),
        (nn.Sequential(nn.Conv2d(7, 2, 3, groups=1)), (2, 7, 224, 224)),
        (flat(1, 28), (2, 1, 28, 28)),
        (flat(3, 32), (2, 3, 32, 32)),
        (nn.Sequential(nn.Linear(5, 2)), (2, 5)),
        (nn.Sequential(nn.Conv1d(2, 2, 3)), (2, 2, 1024)),
        (nn.Sequential(nn.Conv3d(1, 2, 3)), (2, 1, 16, 112, 112)),
        (nn.Sequential(nn.ConvTranspose2d(4, 2, 3)), (2, 4, 224, 224)),
        (Net(flat(3, 17), img_size=17), (2, 3, 17, 17)),
        (Net(flat(3, 17), default_cfg={"input_size": (3, 17, 17)}), (2, 3, 17, 17)),
        (Net(flat(3, 17), config=SimpleNamespace(image_size=[17, 17])), (2, 3, 17, 17)),
        (Net(Net(flat(3, 17), img_size=(17, 17))), (2, 3, 17, 17)),
        (Net(nn.Sequential(nn.Conv3d(3, 2, (5, 9, 9)), nn.Flatten()), num_frames=5, img_size=9), (2, 3, 5, 9, 9)),
    ],
)  # fmt: skip
def test_the_first_layer_and_the_configuration_tell(model: nn.Module, shape: tuple[int, ...]) -> None:
    assert guessed(model) == shape


def test_the_guess_also_runs_in_training() -> None:
    class Auxiliary(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.layer(x)
            return torch.nn.functional.avg_pool2d(x, 250) if self.training else x

    assert guessed(Auxiliary(nn.Conv2d(3, 2, 3))) == (2, 3, 299, 299)


def test_dtype_device_and_repeatability() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3)).double()
    (first,), (second,) = example_for(model)[0], example_for(model)[0]
    assert first.dtype == torch.float64 and torch.equal(first, second)
    with torch.device("meta"):
        assert example_for(nn.Sequential(nn.Conv2d(3, 2, 3)))[0][0].device.type == "meta"


def test_the_random_generator_and_the_model_stay_as_they_were() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)).train()
    state = torch.get_rng_state()
    example_for(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and model[1].num_batches_tracked == 0


def test_several_inputs() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.embed = nn.Conv2d(3, 4, 3), nn.Embedding(10, 4)

        def forward(self, x: Tensor, step: Tensor) -> Tensor:
            return self.conv(x) + self.embed(step)[:, :, None, None]

    class Siamese(Steps):
        def forward(self, a: Tensor, b: Tensor, scale: float = 1.0) -> Tensor:
            return self.conv(a) * self.conv(b) * scale

    assert [tuple(t.shape) for t in example_for(Steps())[0]] == [(2, 3, 224, 224), (2,)]
    assert [tuple(t.shape) for t in example_for(Siamese())[0]] == [(2, 3, 224, 224)] * 2


def test_a_list_of_images() -> None:
    class Lists(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, images: list[Tensor]) -> list[Tensor]:
            assert isinstance(images, list) and all(image.dim() == 3 for image in images)
            return [self.conv(image[None])[self.conv(image[None]) > 0] for image in images]

    (images,), _ = example_for(Lists())
    assert [tuple(image.shape) for image in images] == [(3, 224, 224)] * 2


def test_what_runs_on_no_guess_says_what_was_tried() -> None:
    with pytest.raises(CaptureError) as error:
        example_for(flat(3, 19))
    message = str(error.value)
    assert message.startswith("No example inputs at Sequential: none were given, and none of the guesses runs (tried (")
    assert "(float32 2x3x224x224)" in message and "shapes cannot be multiplied" in message
    assert message.endswith("Give example_inputs=...")
    with pytest.raises(CaptureError, match="it has no convolution and no linear layer"):
        example_for(nn.Sequential(nn.ReLU()))


def test_a_guess_is_enough_to_capture() -> None:
    captured = trace(flat(1, 28))
    assert captured.whole and captured.args[0].shape == (2, 1, 28, 28)


LOADER = DataLoader(TensorDataset(torch.randn(2, 3, 8, 8)))
NO_EXAMPLES: dict[str, tuple[Any, str]] = {
    "shape": ((1, 3, 8, 8), "(1, 3, 8, 8) is a shape. Give a tensor of it, as torch.randn(1, 3, 8, 8)."),
    "list": ([1, 3, 8, 8], "(1, 3, 8, 8) is a shape. Give a tensor of it, as torch.randn(1, 3, 8, 8)."),
    "size": (torch.Size([1, 3]), "(1, 3) is a shape. Give a tensor of it, as torch.randn(1, 3)."),
    "array": (np.zeros((1, 3, 8, 8)), "Give a tensor, as torch.from_numpy(array)."),
    "named array": ({"input": np.zeros((1, 3, 8, 8))}, "Give a tensor, as torch.from_numpy(array)."),
    "loader": (
        LOADER,
        "they hold a DataLoader, which the model does not run on. Give the images of one of its batches.",
    ),
    "data set": (LOADER.dataset, "they hold a data set, which the model does not run on. Give the images of one of"),
    "picture": (
        Image.new("RGB", (8, 8)),
        "Give a tensor, as torchvision.transforms.functional.to_tensor(image)[None].",
    ),
    "text": (
        "1x3x8x8",
        "they hold text, which the model does not run on. Give a tensor, as torch.randn(1, 3, 224, 224).",
    ),
    "model": (nn.ReLU(), "they hold a model, which the model does not run on. Give a tensor."),
    "in a list": (
        [torch.randn(1, 3, 8, 8)],
        "they are a list, which the model does not run on. Give the tensor without",
    ),
    "number": (3, "received an invalid combination of arguments - got (int, Parameter, Parameter, tuple, tuple, tuple"),
    "meta": (torch.empty(1, 3, 8, 8, device="meta"), "they are on the meta device, without values. Give tensors with"),
    "empty": (torch.empty(0, 3, 8, 8), "there are no samples in them. Give one sample, or more."),
}


@pytest.mark.parametrize("given", NO_EXAMPLES.values(), ids=NO_EXAMPLES)
@pytest.mark.parametrize("call", ["shrink", "sparsify", "export", "coupled_channels"])
def test_what_is_no_example(call: str, given: tuple[Any, str], tmp_path: Path) -> None:
    places = (tmp_path / "it.pt",) if call == "export" else ()
    with pytest.raises(CampfireError) as error:
        getattr(campfire_fx, call)(nn.Conv2d(3, 2, 3), *places, example_inputs=given[0])
    assert given[1] in str(error.value) and "\n" not in str(error.value) and "expected one of" not in str(error.value)
