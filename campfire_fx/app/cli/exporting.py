"""`campfire-fx export`: a checkpoint or an exported file in, a file of another format out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from campfire_fx.app.cli.networks import source_network
from campfire_fx.app.cli.options import AsJson, Example, ModelArguments
from campfire_fx.app.cli.terminal import example_inputs, model_options, show, show_json
from campfire_fx.export import check_export, export
from campfire_fx.export.record import ExportRecord
from campfire_fx.report.progress import progress


def export_command(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="A slim .safetensors, .pt or .pt2; a .ckpt of `train`; or a state_dict."),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="The file to write: .onnx, .pt2, .mnn, .safetensors, .pt.")
    ],
    example: Example = None,
    model: Annotated[
        str | None,
        typer.Option(help="The model of a state_dict, or your own code that a checkpoint needs; as for shrink."),
    ] = None,
    option: ModelArguments = None,
    input_name: Annotated[
        list[str] | None, typer.Option(help="For .onnx: the name of an input. Repeat it for each.", show_default="x")
    ] = None,
    output_name: Annotated[
        list[str] | None, typer.Option(help="For .onnx: the name of an output. Repeat it for each.")
    ] = None,
    opset: Annotated[
        int | None, typer.Option(help="For .onnx: the version of its operators, 18 or later.", show_default="torch's")
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Write float16. This changes the output; the difference is shown.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Convert a model to the format that the suffix names; the file is loaded again and compared.

    A .safetensors or .pt file of `shrink` has its model code beside it, which is run: use files that you trust.

    **Examples**

        campfire-fx export slim.safetensors slim.onnx --example 1x1x16x16
        campfire-fx export runs/digits/sparse.ckpt sparse.pt2
        campfire-fx export runs/digits/sparse.ckpt sparse.mnn
        campfire-fx export weights.pt resnet18.onnx --model resnet18
        campfire-fx export slim.safetensors slim-half.onnx --half --opset 18
    """
    check_export(target)
    network, shapes = source_network(source, "export", model, model_options(option))
    inputs = example_inputs(example) or shapes
    with progress("Exporting"):
        names = {"input_names": input_name or (), "output_names": output_name or ()}
        record = export(network, target, inputs, **names, opset=opset, half=half)
    if as_json:
        facts = dataclasses.asdict(record) | {"path": str(record.path), "files": [str(path) for path in record.files]}
        show_json(facts)
        return
    show(_told(record))


def _told(record: ExportRecord) -> str:
    files = ", ".join(str(path) for path in record.files)
    sentences = [f"Wrote {files}: {record.bytes:,} bytes, outputs within {record.difference:.1e} of the model's."]
    sentences += ["The difference is due to half precision."] * record.half
    sentences += [f"Dynamic sizes: {', '.join(record.free)}."] * bool(record.free)
    sentences += [f"Left out: the graphs for {', '.join(record.left_out)}."] * bool(record.left_out)
    return " ".join(sentences)
