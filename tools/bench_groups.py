"""Time networks whose filters are in groups: dense, and shrunk with `groups=True`; in torch and in ONNX Runtime.

    python tools/bench_groups.py                                    # ResNet-50, 75 % in 4 groups: one thread, one image
    python tools/bench_groups.py --network resnet18 --sparsity 0.5 --groups 8 --threads 2
    python tools/bench_groups.py --network resnet18 --image 32 --repeats 3 --no-layers     # to see that it runs

The weights are torch's random ones, pruned by regime `grouped` at once; a training chooses other sets, as large.
Three networks are timed whole. `dense`: as torchvision has it. `channels`: shrunk without groups, so that only those
channels have gone that no set reads. `groups`: shrunk with them; norms are folded in all three, as ONNX Runtime does by
itself. Then every layer of its own, with its gathers, as often as the network has it; where torch's clock left a layer
dense, the table says so.

Every time is the median of rounds in turns, in one run; with one thread it is processor time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from campfire_fx import SlimModel, export, shrink, sparsify  # noqa: E402
from campfire_fx.base.timing import in_turns  # noqa: E402

RUNTIMES = ("torch", "ONNX Runtime")


def main(arguments: Sequence[str] | None = None) -> int:
    """Time what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet50", help="a classifier of torchvision")
    parser.add_argument("--sparsity", type=float, default=0.75)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--image", type=int, default=224, help="side of the images, in pixels")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=11, help="rounds in which all are timed in turns")
    parser.add_argument("--layers", action=argparse.BooleanOptionalAction, default=True, help="each layer of its own")
    options = parser.parse_args(arguments)
    if options.repeats < 1 or not 0 < options.sparsity < 1:
        parser.error("--repeats is 1 or more, and --sparsity more than 0 and less than 1.")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    console = Console(width=160)
    console.print(whole_network(options))
    if options.layers:
        console.print(layer_by_layer(options))
    return 0


def whole_network(options: argparse.Namespace) -> Table:
    """Time a network dense, without its dead channels, and in groups."""
    model, x = torchvision.models.get_model(options.network).eval(), images(options, 3, options.image)
    sparse = pruned(model, x, options)
    models = {
        "dense": shrink(model, x, fold_norms=True),
        "channels": sparse.shrink(fold_norms=True),
        "groups": sparse.shrink(fold_norms=True, groups=True),
    }
    done = models["groups"].plan.groups
    table = new_table(f"{options.network}, whole", options, ("network", *headings(), "parameters", "layers in groups"))
    times = race(models, x, options)
    for name, slim in models.items():
        count = f"{sum(change.after < change.before for change in done)} of {len(done)}" if name == "groups" else ""
        parameters = f"{sum(p.numel() for p in slim.parameters()):,}"
        table.add_row(name, *cells([times[runtime, name] for runtime in RUNTIMES], times), parameters, count)
    return table


def layer_by_layer(options: argparse.Namespace) -> Table:
    """Time every layer of its own: those of one shape once, and together as often as the network has them."""
    table = new_table(f"{options.network}, layer by layer", options, ("layer", "times", *layer_headings(), "done"))
    totals: defaultdict[tuple[str, str], float] = defaultdict(float)
    for (conv, image), (name, times) in shapes(options).items():
        x = images(options, conv[0], image)
        inputs, filters, kernel, stride = conv
        layer = nn.Sequential(nn.Conv2d(inputs, filters, kernel, stride, kernel // 2, bias=False)).eval()
        slim = pruned(layer, x, options).shrink(groups=True)
        (change,) = slim.plan.groups
        found = race({"dense": shrink(layer, x), "groups": slim}, x, options)
        grouped = change.after < change.before
        words = f"{len(change.filters)} x {len(change.filters[0])} of {change.after}" if grouped else "left dense"
        table.add_row(f"{name}: {inputs}-{filters}, {kernel}x{kernel}, {image} px", str(times), *pairs(found), words)
        for key, took in found.items():
            totals[key] += took * times
    table.add_section()
    table.add_row("together", "", *pairs(totals), "")
    return table


def pruned(model: nn.Module, x: Tensor, options: argparse.Namespace) -> Any:
    """Return a model whose filters are in groups, by regime `grouped`."""
    wishes: dict[str, Any] = {"sparsity": options.sparsity, "groups": options.groups, "prune_stem": x.shape[1] > 3}
    return sparsify(model, "grouped", example_inputs=x, **wishes).finalize()


def shapes(options: argparse.Namespace) -> dict[tuple[tuple[int, int, int, int], int], tuple[str, int]]:
    """Return the convolutions of a network that can be grouped, and the images they read: first name, and how many."""
    model, found = torchvision.models.get_model(options.network).eval(), dict[Any, tuple[str, int]]()

    def note(name: str) -> Callable[..., None]:
        def hook(conv: Any, args: tuple[Tensor], _output: Tensor) -> None:
            shape = (conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.stride[0]), args[0].shape[-1]
            first, count = found.get(shape, (name, 0))
            found[shape] = first, count + 1

        return hook

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1 and module.in_channels > 3:
            module.register_forward_hook(note(name))
    with torch.inference_mode():
        model(images(options, 3, options.image))
    return found


def images(options: argparse.Namespace, channels: int, side: int) -> Tensor:
    """Return an input at random."""
    return torch.randn(options.batch, channels, side, side)


def race(models: dict[str, SlimModel], x: Tensor, options: argparse.Namespace) -> dict[tuple[str, str], float]:
    """Return the median milliseconds of a call of each, by (runtime, model)."""
    with TemporaryDirectory() as folder, torch.inference_mode():
        ways = {("torch", name): called(model, x) for name, model in models.items()}
        for name, model in models.items():
            ways["ONNX Runtime", name] = session(model, x, Path(folder) / f"{name}.onnx", options.threads)
        times = in_turns(tuple(ways.values()), x.device, least=options.repeats, most=options.repeats)
    return {key: statistics.median(taken) * 1e3 for key, taken in zip(ways, times, strict=True)}


def called(model: nn.Module, x: Tensor) -> Callable[[], object]:
    """Return a call of a model."""
    return lambda: model(x)


def session(model: nn.Module, x: Tensor, path: Path, threads: int) -> Callable[[], object]:
    """Return a call of the file that a model is exported to, in ONNX Runtime."""
    import onnxruntime

    with torch.inference_mode(mode=False):
        export(model, path, x)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    run = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    given = {run.get_inputs()[0].name: x.numpy()}
    return lambda: run.run(None, given)


def new_table(title: str, options: argparse.Namespace, columns: Sequence[str]) -> Table:
    """Return an empty table."""
    what = f"{options.sparsity:.0%} in {options.groups} groups; batch {options.batch}, {options.threads} thread(s)"
    table = Table(title=f"{title}: {what}; median milliseconds")
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place in (0, len(columns) - 1) else "right", no_wrap=True)
    return table


def headings() -> list[str]:
    """Return the headings of a network's times: each runtime's, and the ratio to dense."""
    return [text for runtime in RUNTIMES for text in (runtime, "speed-up")]


def layer_headings() -> list[str]:
    """Return the headings of a layer's times: for each runtime dense, in groups, and their ratio."""
    return [text for runtime in RUNTIMES for text in (f"{runtime},\ndense", "\ngroups", "\nspeed-up")]


def cells(times: Sequence[float], all_times: dict[tuple[str, str], float]) -> list[str]:
    """Return the times of a network as text, each with its ratio to dense."""
    rows = zip(RUNTIMES, times, strict=True)
    return [text for runtime, took in rows for text in (f"{took:.2f}", f"{all_times[runtime, 'dense'] / took:.2f}x")]


def pairs(times: dict[tuple[str, str], float]) -> list[str]:
    """Return the times of a layer as text: dense, in groups, and their ratio."""
    both = [(times[runtime, "dense"], times[runtime, "groups"]) for runtime in RUNTIMES]
    return [text for dense, grouped in both for text in (f"{dense:.3f}", f"{grouped:.3f}", f"{dense / grouped:.2f}x")]


if __name__ == "__main__":
    sys.exit(main())
