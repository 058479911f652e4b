"""`campfire-fx accelerate`: a file with zeros in its weights in, one that runs faster on this CPU out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from campfire_fx.acceleration.accelerate import accelerate
from campfire_fx.app.cli.networks import source_network
from campfire_fx.app.cli.options import AsJson, Example, ModelArguments
from campfire_fx.app.cli.terminal import example_inputs, model_options, show, show_json
from campfire_fx.base.errors import AccelerateError
from campfire_fx.export import export
from campfire_fx.report.progress import progress
from campfire_fx.training.model import SparseModel

_WRITTEN = ".pt2"


def accelerate_command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A .ckpt of `train`, a file of `shrink`, or, with --model, any file that holds a state_dict.",
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="The model of a state_dict: a torchvision name, or package.module:factory.")
    ] = None,
    option: ModelArguments = None,
    example: Example = None,
    threads: Annotated[int | None, typer.Option(help="Threads to time with.", min=1, show_default="torch's")] = None,
    output: Annotated[Path | None, typer.Option(help="The .pt2 file to write.", show_default="FILE-fast.pt2")] = None,
    as_json: AsJson = False,
) -> None:
    """Find the fastest form of each layer on this CPU, kernels that skip zeros included; the output stays the same.

    Zeros are skipped where that is faster, norms folded, sums and activations computed with the layer before them. What
    is written is a .pt2 file of torch.export, with any image and batch size; it is loaded with `campfire_fx.load`, on a
    machine that has campfire_fx, whose kernels it calls.

    **Examples**

        campfire-fx accelerate runs/digits/sparse.ckpt --threads 1
        campfire-fx accelerate slim.safetensors --example 1x3x224x224
        campfire-fx accelerate weights.pt --model resnet50 --example 1x3x224x224
    """
    target = output or source.with_name(f"{source.stem}-fast{_WRITTEN}")
    if target.suffix.lower() != _WRITTEN:
        raise AccelerateError(
            f"Cannot write {target}: an accelerated model is written as {_WRITTEN} alone, since other formats have no "
            f"kernels that skip zeros. Give --output FILE{_WRITTEN}."
        )
    if threads is not None:
        torch.set_num_threads(threads)
    network, shapes = source_network(source, "accelerate", model, model_options(option))
    if isinstance(network, SparseModel):
        network = network.finalize()
    fast = accelerate(network, example_inputs(example) or shapes)
    with progress("Exporting"):
        written = export(fast, target, fast.example[0] or fast.example[1])
    if as_json:
        show_json(fast.report().to_dict() | {"file": str(written.path)})
        return
    show(fast.report())
    show(f"Written: {written.path}. Load it with campfire_fx.load.")
