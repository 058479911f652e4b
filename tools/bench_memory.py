"""Measure the memory of a training step: dense, and with a SWAT regime at several sparsities.

    python tools/bench_memory.py                            # ResNet-50, batch 16 at 96 px
    python tools/bench_memory.py --model wrn16-8 --size 32  # the wide residual network of SWAT's CIFAR tables
    python tools/bench_memory.py --recompute                # also with every residual block computed twice
    python tools/bench_memory.py --quick                    # a small network, to see that it runs

Saved: what autograd keeps from the forward pass for the backward pass, each storage once, without parameters and
buffers; by the kind of layer that kept it first. Peak: the most that was allocated in forward pass, backward pass and
optimizer step, above what lies there between steps (weights, momenta, masks); once in a step that computes thresholds,
once in one that uses them again, as those steps do that are timed. On a CPU it is what PyTorch's allocator gave out,
and not what oneDNN takes for itself within an operation. Weights: what a backward pass reads of the sparse weights if
they are packed as the inputs are; nothing of that is allocated, since the master weights and the masks lie there
anyway.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from allocation import peak_within
from bench_networks import by_name
from torch import Tensor, fx, nn
from torch.fx.passes.split_module import split_module
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from campfire_fx import SparseModel, sparsify
from campfire_fx.app.train.recipe import PRECISIONS
from campfire_fx.layers.dense_weights import DenseWeightsLayer
from campfire_fx.layers.dense_weights.packing import pack

MB = 1e6
KINDS = {"layers": (nn.Linear, nn.modules.conv._ConvNd), "relus": (nn.ReLU,), "norms": (_BatchNorm,)}
Step = Callable[[], None]


@dataclass(slots=True)
class Memory:
    """Bytes: kept for the backward pass by kind of layer, and the peak with thresholds new and used again; seconds."""

    saved: dict[str, int] = field(default_factory=dict)
    peaks: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """All that is kept."""
        return sum(self.saved.values())


def main() -> None:
    """Parse the command line, measure, and print one table."""
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    network = by_name(options.model).to(options.device)
    images = torch.randn(options.batch, 3, options.size, options.size, device=options.device)
    print(
        f"{options.model}, batch {options.batch} at {options.size} px, {options.regime}, period {options.period}, ",
        end="",
    )
    print(f"{options.precision}, {options.device}, {options.threads} threads, MB; in brackets: to dense")
    print(
        "".join(
            f"{title:>16}" for title in ("", "saved", *KINDS, "other", "peak", "peak, reused", "s a step", "weights")
        )
    )
    dense = measured("dense", network, images, options)
    row("dense", dense, dense, 1.0)
    for sparsity in options.sparsities:
        sparse = sparsify(network, options.regime, sparsity=sparsity, period=options.period, example_inputs=images[:1])
        row(f"{sparsity:.0%}", measured("sparse", sparse, images, options), dense, packed_weights(sparse))
        if options.recompute:
            row(
                f"{sparsity:.0%} recomputed",
                measured("recomputed", sparse, images, options),
                dense,
                packed_weights(sparse),
            )


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50", help="wrn16-8, or a torchvision classifier")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=96, help="of the images, in pixels")
    parser.add_argument("--repeats", type=int, default=3, help="steps that are timed")
    parser.add_argument("--regime", default="swat-u")
    parser.add_argument("--period", type=int, default=10)
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.5, 0.7, 0.8, 0.9])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="that layers compute in")
    parser.add_argument("--recompute", action="store_true", help="also with residual blocks that are computed twice")
    parser.add_argument("--quick", action="store_true", help="a small network and one step")
    options = parser.parse_args()
    if options.quick:
        options.model, options.batch, options.size, options.repeats = "resnet8", 4, 16, 1
        options.sparsities = [0.5, 0.9]
    return options


def measured(kind: str, network: nn.Module, images: Tensor, options: argparse.Namespace) -> Memory:
    """Take one step that allocates the optimizer's state, and measure the next ones."""
    model = copy.deepcopy(network).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    if isinstance(model, SparseModel):
        model.attach(optimizer)
    run = recomputed(model) if kind == "recomputed" else model
    labels = torch.randint(0, 10, (len(images),), device=images.device)

    def step() -> None:
        with torch.autocast(options.device, torch.bfloat16, enabled=options.precision == "bfloat16"):
            loss = F.cross_entropy(run(images).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    found = Memory()
    with saving(model, found.saved):
        step()
    for on in (True, False):
        refreshing(model, on)
        found.peaks.append(peak_within(step, options.device))
    found.seconds = statistics.median(timed(step, options.device) for _ in range(options.repeats))
    return found


def refreshing(model: nn.Module, on: bool) -> None:
    """Have the next step compute the inputs' thresholds, or use them again."""
    for module in model.modules():
        if isinstance(module, DenseWeightsLayer):
            module.refreshing = on


@contextmanager
def saving(model: nn.Module, saved: dict[str, int]) -> Iterator[None]:
    """Count the bytes that autograd keeps, each storage once, by the kind of the module that is running."""
    running = ["other"]
    seen = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    saved.update(dict.fromkeys((*KINDS, "other"), 0))
    alive = []  # storages that are freed within the forward pass would give their address to others

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            saved[running[-1]] += storage.nbytes()
            alive.append(storage)
        return tensor

    hooks = []
    for module in model.modules():
        kind = next((name for name, types in KINDS.items() if isinstance(module, types)), None)
        if kind is not None:
            hooks.append(module.register_forward_pre_hook(lambda *_, kind=kind: running.append(kind)))
            hooks.append(module.register_forward_hook(lambda *_: running.pop() and None))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield
    for hook in hooks:
        hook.remove()


def timed(step: Step, device: str) -> float:
    """Return the seconds of a step."""
    began = time.perf_counter()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began


class Twice(nn.Module):
    """A part of a model that keeps its inputs alone, and is computed again for the backward pass."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, *inputs: Any) -> Any:
        """Compute the part."""
        return checkpoint(self.part, *inputs, use_reentrant=False)


def recomputed(model: nn.Module) -> nn.Module:
    """Return a model over the same layers that is computed again from sum to sum of its residual stream."""
    graph_module = cast(fx.GraphModule, model)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # a part must find its input as it was when it is computed again
    parts: dict[fx.Node, int] = {}
    for node in graph_module.graph.nodes:
        ends = any("add" in str(source.target) for source in node.all_input_nodes)
        parts[node] = max(parts.values(), default=0) + ends
    split = split_module(fx.GraphModule(model, graph_module.graph), model, lambda node: parts[node])
    for name, part in list(split.named_children()):
        split.add_module(name, Twice(part))
    return split.train()


def packed_weights(model: SparseModel) -> float:
    """Return the bytes of all sparse weights packed as the inputs are, to those of the dense ones."""
    model.epoch(0)
    layers = [module for module in model.modules() if isinstance(module, DenseWeightsLayer)]
    packed = sum(part.nbytes for layer in layers for part in pack(layer.weight * layer.mask, None))
    return packed / sum(layer.weight.nbytes for layer in layers)


def row(name: str, found: Memory, dense: Memory, weights: float) -> None:
    """Print one line of the table."""

    def cell(value: float, base: float, scale: float = MB) -> str:
        return f"{value / scale:.1f} ({value / base:.2f})" if base else f"{value / scale:.1f}"

    cells = [cell(found.total, dense.total)]
    cells += [cell(found.saved[kind], 0) for kind in found.saved]
    cells += [cell(mine, theirs) for mine, theirs in zip(found.peaks, dense.peaks, strict=True)]
    cells += [cell(found.seconds, dense.seconds, 1.0), f"({weights:.2f})"]
    print(f"{name:>16}" + "".join(f"{text:>16}" for text in cells), flush=True)


if __name__ == "__main__":
    main()
