"""Compare what a latency table predicts for slimmer networks with their measured times.

    python tools/bench_latency.py                       # ResNet-18 at 224 px, batch 1, one thread
    python tools/bench_latency.py --model resnet50
    python tools/bench_latency.py --model mobilenet_v2  # any of torchvision's, its filters zeroed and shrunk

A ResNet's widths are set by hand, the same for all layers that a residual sum couples: all halves, all quarters, and
random ones. In other networks random filters of every convolution are zeroed, and `shrink` removes what it can. All
networks take turns within every round, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn

from campfire_fx import shrink
from campfire_fx.cost.latency_table import latency_table
from campfire_fx.cost.measure import latencies

Draw = Callable[[int], int]
"""The full width -> the one of a slim network."""
Widths = dict[str, tuple[int, int]]


def main() -> None:
    """Parse the command line, measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18", help="a torchvision classifier")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=224, help="of the images, in pixels")
    parser.add_argument("--repeats", type=int, default=15, help="rounds that are timed")
    parser.add_argument("--random", type=int, default=4, help="networks of random widths")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--channels-last", action="store_true", help="the memory format of model and images")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    images = torch.randn(options.batch, 3, options.size, options.size, device=options.device)
    images = images.to(memory_format=layout)
    dense = torchvision.models.get_model(options.model, weights=None).to(options.device).eval()
    dense = dense.to(memory_format=layout)
    slim = {name: slimmed(dense, draw, images).to(memory_format=layout) for name, draw in draws(options.random)}
    began = time.perf_counter()
    table = latency_table(dense, (images,), cache=False)
    built = time.perf_counter() - began
    measured = latencies({"dense": dense, **slim}, (images,), repeats=options.repeats)
    print(f"{options.model}, {tuple(images.shape)}, {options.threads} threads, {table.setting.device}")
    print(f"table of {len(table.layers)} layers in {built:.1f} s; dense {table.dense_ms:.2f} ms, of it")
    print(f"  {table.constant_ms:.2f} ms constant, {table.element_ns:.2f} ns for each element that layers write")
    dense_ms = measured["dense"].median_ms
    print(f"{'network':12}{'predicted ms':>14}{'measured ms':>13}{'ratio':>8}{'predicted':>12}{'measured':>10}")
    for name, network in {"dense": dense, **slim}.items():
        widths = widths_of(network)
        predicted = table.total_ms({path: widths[path] for path in table.layers if path in widths})
        took = measured[name].median_ms
        shares = f"{predicted / table.dense_ms:12.3f}{took / dense_ms:10.3f}"
        print(f"{name:12}{predicted:14.2f}{took:13.2f}{predicted / took:8.3f}{shares}")


def draws(n_random: int) -> list[tuple[str, Draw]]:
    """Return the slim networks' names and how their widths are drawn."""
    chance = random.Random(0)
    uniform: list[tuple[str, Draw]] = [("half", lambda full: full // 2), ("quarter", lambda full: full // 4)]

    def drawn(full: int) -> int:
        return max(1, round(full * chance.uniform(0.15, 1.0)))

    return uniform + [(f"random {index + 1}", drawn) for index in range(n_random)]


def slimmed(dense: nn.Module, draw: Draw, images: Tensor) -> nn.Module:
    """Return a slimmer network of the same kind."""
    if isinstance(dense, torchvision.models.ResNet) and dense.groups == 1:
        return slim_resnet(copy.deepcopy(dense), draw).to(images.device).eval()
    return shrink(zeroed(copy.deepcopy(dense), draw), images).eval()


def slim_resnet(model: torchvision.models.ResNet, draw: Draw) -> nn.Module:
    """Give a ResNet other widths: one for the stem, one for each residual sum, one for each layer inside a block."""
    width = draw(model.conv1.out_channels)
    narrow(model, "conv1", "bn1", model.conv1.in_channels, width)
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        names = [name for name, child in stage[0].named_children() if isinstance(child, nn.Conv2d)]
        last = stage[0].get_submodule(names[-1])
        joined = width if stage[0].downsample is None else draw(last.out_channels)
        for block in stage:
            if block.downsample is not None:
                narrow(block.downsample, "0", "1", width, joined)
            for name in names:
                out = joined if name == names[-1] else draw(block.get_submodule(name).out_channels)
                narrow(block, name, name.replace("conv", "bn"), width, out)
                width = out
    model.fc = nn.Linear(width, model.fc.out_features)
    return model


def narrow(parent: nn.Module, conv: str, norm: str, inputs: int, outputs: int) -> None:
    """Put a convolution and a norm of other widths in the place of those there are."""
    old = parent.get_submodule(conv)
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(inputs, outputs, old.kernel_size, old.stride, old.padding, bias=False)  # type: ignore[arg-type]
    setattr(parent, conv, new)
    setattr(parent, norm, nn.BatchNorm2d(outputs))


@torch.no_grad()
def zeroed(model: nn.Module, draw: Draw) -> nn.Module:
    """Zero random filters of every convolution."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            out = layer.out_channels
            layer.weight[torch.randperm(out)[draw(out) :]] = 0
    return model


def widths_of(model: nn.Module) -> Widths:
    """Return inputs and outputs of every layer."""
    found: Widths = {}
    for path, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            found[path] = layer.in_channels, layer.out_channels
        elif isinstance(layer, nn.Linear):
            found[path] = layer.in_features, layer.out_features
    return found


if __name__ == "__main__":
    main()
