"""`campfire-fx shrink`: a checkpoint in, a smaller model with the same output out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from campfire_fx.app import proof
from campfire_fx.app.cli.assignments import sparsify_arguments
from campfire_fx.app.cli.networks import detector_at, source_network
from campfire_fx.app.cli.options import (
    AsJson,
    ChannelSetting,
    Columns,
    Compensate,
    Example,
    FoldNorms,
    Groups,
    ModelArguments,
    Prove,
    Streams,
    Target,
    Trust,
)
from campfire_fx.app.cli.terminal import example_inputs, model_options, show, show_json
from campfire_fx.app.libraries.ultralytics import Detector
from campfire_fx.app.onnx_parts import KeptNodes, open_onnx
from campfire_fx.app.smaller import Smaller, made_smaller, put_back
from campfire_fx.base.errors import ExportError
from campfire_fx.capture.from_onnx.interpret import OnnxGraph
from campfire_fx.export import ExportRecord, check_export, export
from campfire_fx.export.onnx_agreement import compare_files
from campfire_fx.report.numbers import percent
from campfire_fx.report.progress import progress
from campfire_fx.training.sparsify import check_settings

Given = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A .ckpt of `train`, a state_dict, a file of `export`, an .onnx file, a .pt file of ultralytics, or a"
        " folder of transformers.",
    ),
]


def shrink_command(
    checkpoint: Given,
    model: Annotated[
        str | None, typer.Option(help="The model of a state_dict: a torchvision name, or package.module:factory.")
    ] = None,
    option: ModelArguments = None,
    example: Example = None,
    output: Annotated[
        Path | None,
        typer.Option(help="File for the slim model, .safetensors, .pt2, .onnx, .mnn, .pt.", show_default="beside it"),
    ] = None,
    target: Target = None,
    setting: ChannelSetting = None,
    trust: Trust = False,
    residual: Streams = "union",
    round_to: Annotated[int, typer.Option(help="Round channel counts up to a multiple of this.", min=1)] = 1,
    columns: Columns = False,
    compensate: Compensate = "auto",
    fold_norms: FoldNorms = False,
    groups: Groups = False,
    prove: Prove = None,
    as_json: AsJson = False,
) -> None:
    """Remove the channels that zeros in the weights made dead, and check that the output stays the same.

    The zeros may come from `campfire-fx train`, from torch.nn.utils.prune, or from anything else. With --target, the
    channels that matter least are zeroed first, at once: the network gets as small as you ask for, its output changes,
    and it needs fine-tuning.

    **Examples**

        campfire-fx shrink runs/digits/sparse.ckpt
        campfire-fx shrink weights.pt --model resnet50 --output slim.onnx
        campfire-fx shrink weights.pt --model mynets:small --option width=32
        campfire-fx shrink model.onnx --output slim.onnx --proof proof.json
        campfire-fx shrink yolov8n.pt --target macs=0.7 --output slim.pt
    """
    options = model_options(option)
    cut = sparsify_arguments(setting or (), (), target or ())
    _check(output, prove, cut)
    detector = None if model or options else _detector(checkpoint, prove, trust=trust)
    network, inputs, kept = _source(checkpoint, (model, options), example, trust=trust, detector=detector)
    _check_kept(kept, output)
    choices: dict[str, Any] = {"round_to": round_to, "columns": columns, "compensate": compensate}
    choices |= {"fold_norms": fold_norms, "groups": groups, "residual": residual}
    smaller = made_smaller(network, inputs, choices, cut)
    with progress("Exporting"):
        written, apart = _written(smaller, detector, (checkpoint, kept), output)
        if prove is not None:
            proof.prove(checkpoint, written.files, (model, options), _example_of_file(smaller, kept), prove)
    if as_json:
        show_json(_facts(smaller, written) | {"files_difference": apart})
    else:
        _show(smaller, written, checkpoint, apart, kept)


def _detector(path: Path, prove: Path | None, *, trust: bool) -> Detector | None:
    detector = detector_at(path, trust=trust)
    if detector is not None and prove is not None:
        raise typer.BadParameter("--proof: no proof can check files that only ultralytics loads. Leave it out.")
    return detector


def _check(output: Path | None, prove: Path | None, cut: dict[str, Any]) -> None:
    """Raise what can be known before the file is read."""
    if cut and "target" not in cut:
        raise typer.BadParameter("--set says how --target is met. Give --target, too.")
    if cut and prove is not None:
        raise typer.BadParameter(
            "--proof and --target: a target changes the output; there is nothing to prove. Give one."
        )
    if cut:
        check_settings("channel", **cut)
    if output is not None:
        check_export(output)


def _source(
    path: Path,
    opened: tuple[str | None, dict[str, Any]],
    example: Sequence[str] | None,
    *,
    trust: bool,
    detector: Detector | None,
) -> tuple[nn.Module, Any, KeptNodes | None]:
    """Return the network of a file, its inputs, and the nodes of an .onnx file that are no part of it."""
    given = example_inputs(example)
    if path.suffix.lower() == ".onnx" and not any(opened):
        network, kept = open_onnx(path)
        inputs = network.example[0] if given is None else given if kept is None else kept.inputs(given)
        return network, inputs, kept
    module, shapes = source_network(path, "shrink", *opened, trust=trust, detector=detector)
    return module, given or shapes, None


def _example_of_file(smaller: Smaller, kept: KeptNodes | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args, kwargs = smaller.slim.example
    return args if kept is None else kept.own(args), kwargs


def _check_kept(kept: KeptNodes | None, output: Path | None) -> None:
    if kept is not None and output is not None and output.suffix.lower() != ".onnx":
        raise typer.BadParameter(
            f"--output: {kept.told} of the file are not understood and stay as they are, in an .onnx file alone. "
            "Name one."
        )


def _written(
    smaller: Smaller, detector: Detector | None, given: tuple[Path, KeptNodes | None], output: Path | None
) -> tuple[ExportRecord, float | None]:
    """Write the slim model; of an .onnx file under the same names, and compared with it in onnxruntime."""
    network, slim, (source, kept) = smaller.network, smaller.slim, given
    if detector is not None and (output is None or output.suffix.lower() == ".pt"):
        return put_back(smaller, detector, output or source.with_name(f"{source.stem}-slim.pt")), None
    if not isinstance(network, OnnxGraph):
        name = source.name if source.is_dir() else source.stem
        return export(slim, output or source.with_name(f"{name}-slim.safetensors")), None
    target = output or source.with_name(f"{source.stem}-slim.onnx")
    if target.suffix.lower() != ".onnx":
        return export(slim, target), None
    names: dict[str, Any] = {"input_names": network.input_names, "output_names": network.output_names}
    record = export(slim, target, **names, opset=None if kept is None else kept.opset)
    if kept is not None:
        record = dataclasses.replace(record, bytes=kept.put_back(target))
    if smaller.moved is not None:
        return record, None
    try:
        return record, compare_files(source, target, _example_of_file(smaller, kept)[0])
    except ExportError:
        target.unlink(missing_ok=True)
        raise


def _show(smaller: Smaller, written: ExportRecord, source: Path, apart: float | None, kept: KeptNodes | None) -> None:
    if kept is not None:
        show(f"Kept as they are, and no part of these numbers: {kept.told}.")
    show(smaller.slim.report())
    if smaller.moved is not None:
        show(
            f"Channels were zeroed for the target, without training: this moved the output by {percent(smaller.moved)}"
            " of its largest value on random inputs. Accuracy needs fine-tuning: docs/after.md."
        )
    show(f"Written: {', '.join(str(path) for path in written.files)}")
    if apart is not None:
        show(f"In onnxruntime its outputs are within {apart:.1e} of those of {source}.")


def _facts(smaller: Smaller, written: ExportRecord) -> dict[str, Any]:
    network, slim = smaller.network, smaller.slim
    counts = {name: sum(p.numel() for p in m.parameters()) for name, m in (("before", network), ("after", slim))}
    return {
        "parameters": counts,
        "difference": slim.verification.difference if slim.verification else None,
        "moved": smaller.moved,
        "files": [str(path) for path in written.files],
        "layers": [dataclasses.asdict(layer) for layer in slim.plan.layers],
        "kernels": [dataclasses.asdict(kernel) for kernel in slim.plan.kernels],
        "columns": [dataclasses.asdict(change) for change in slim.plan.columns],
        "groups": [dataclasses.asdict(change) for change in slim.plan.groups],
        "norms": [dataclasses.asdict(change) for change in slim.plan.norms],
        "repairs": [dataclasses.asdict(repair) for repair in slim.plan.repairs],
        "pins": [dataclasses.asdict(pin) for pin in slim.plan.pins],
    }
