"""`campfire-fx shrink`: a checkpoint in, a smaller model with the same output out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from campfire_fx.app import proof
from campfire_fx.app.cli.networks import source_network
from campfire_fx.app.cli.options import (
    AsJson,
    Columns,
    Compensate,
    Example,
    FoldNorms,
    Groups,
    ModelArguments,
    Prove,
    Residual,
)
from campfire_fx.app.cli.terminal import example_inputs, model_options, show, show_json
from campfire_fx.base.errors import ExportError
from campfire_fx.capture.from_onnx.interpret import OnnxGraph
from campfire_fx.export import ExportRecord, check_export, export
from campfire_fx.export.onnx_agreement import compare_files
from campfire_fx.report.progress import progress
from campfire_fx.shrink.slim import SlimModel, shrink
from campfire_fx.training.model import SparseModel


def shrink_command(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A .ckpt of `train`, a state_dict, a file of `export`, or an .onnx file."),
    ],
    model: Annotated[
        str | None, typer.Option(help="The model of a state_dict: a torchvision name, or package.module:factory.")
    ] = None,
    option: ModelArguments = None,
    example: Example = None,
    output: Annotated[
        Path | None,
        typer.Option(help="File for the slim model, .safetensors, .pt2, .onnx, .mnn, .pt.", show_default="beside it"),
    ] = None,
    residual: Annotated[
        Residual, typer.Option(help="union: a channel stays while any branch writes it; gate: branches select theirs.")
    ] = "union",
    round_to: Annotated[int, typer.Option(help="Keep channel counts multiples of this.", min=1)] = 1,
    columns: Columns = False,
    compensate: Compensate = "auto",
    fold_norms: FoldNorms = False,
    groups: Groups = False,
    prove: Prove = None,
    as_json: AsJson = False,
) -> None:
    """Remove every channel that zeros in the weights made dead; the output stays the same, and that is proven.

    The zeros may come from `campfire-fx train`, from torch.nn.utils.prune, or from anything else.

    **Examples**

        campfire-fx shrink runs/digits/sparse.ckpt
        campfire-fx shrink weights.pt --model resnet50 --output slim.onnx
        campfire-fx shrink weights.pt --model mynets:small --option width=32
        campfire-fx shrink model.onnx --output slim.onnx --proof proof.json
    """
    options = model_options(option)
    if output is not None:
        check_export(output)
    network, shapes = source_network(checkpoint, "shrink", model, options)
    choices: dict[str, Any] = {"round_to": round_to, "columns": columns, "compensate": compensate}
    choices |= {"fold_norms": fold_norms, "groups": groups}
    slim = _slim(network, example_inputs(example) or shapes, {"residual": residual, **choices})
    with progress("Exporting"):
        written, apart = _written(network, slim, checkpoint, output)
        if prove is not None:
            proof.prove(checkpoint, written.files, (model, options), slim.example, prove)
    if as_json:
        show_json(_facts(network, slim, written) | {"files_difference": apart})
    else:
        _show(slim, written, checkpoint, apart)


def _slim(network: nn.Module, inputs: Any, choices: dict[str, Any]) -> SlimModel:
    if isinstance(network, SparseModel):
        return network.finalize().shrink(**choices)
    return shrink(network, inputs, **choices)


def _written(
    network: nn.Module, slim: SlimModel, source: Path, output: Path | None
) -> tuple[ExportRecord, float | None]:
    """Export the slim model; of an .onnx file under the same names, and compared with it in onnxruntime."""
    if not isinstance(network, OnnxGraph):
        return export(slim, output or source.with_name(f"{source.stem}-slim.safetensors")), None
    target = output or source.with_name(f"{source.stem}-slim.onnx")
    if target.suffix.lower() != ".onnx":
        return export(slim, target), None
    record = export(slim, target, input_names=network.input_names, output_names=network.output_names)
    try:
        return record, compare_files(source, target, slim.example[0])
    except ExportError:
        target.unlink(missing_ok=True)
        raise


def _show(slim: SlimModel, written: ExportRecord, source: Path, apart: float | None) -> None:
    show(slim.report())
    show(f"Written: {', '.join(str(path) for path in written.files)}")
    if apart is not None:
        show(f"In onnxruntime its outputs are within {apart:.1e} of those of {source}.")


def _facts(network: nn.Module, slim: SlimModel, written: ExportRecord) -> dict[str, Any]:
    counts = {name: sum(p.numel() for p in m.parameters()) for name, m in (("before", network), ("after", slim))}
    return {
        "parameters": counts,
        "difference": slim.verification.difference if slim.verification else None,
        "files": [str(path) for path in written.files],
        "layers": [dataclasses.asdict(layer) for layer in slim.plan.layers],
        "kernels": [dataclasses.asdict(kernel) for kernel in slim.plan.kernels],
        "columns": [dataclasses.asdict(change) for change in slim.plan.columns],
        "groups": [dataclasses.asdict(change) for change in slim.plan.groups],
        "norms": [dataclasses.asdict(change) for change in slim.plan.norms],
        "repairs": [dataclasses.asdict(repair) for repair in slim.plan.repairs],
        "pins": [dataclasses.asdict(pin) for pin in slim.plan.pins],
    }
