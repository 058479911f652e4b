"""`campfire-fx bench`: what files and models take in the runtimes that are installed, side by side."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from campfire_fx.app.cli.networks import network_of
from campfire_fx.app.cli.options import AsJson, Example, ModelArguments, OwnModel
from campfire_fx.app.cli.terminal import example_inputs, model_options, show
from campfire_fx.app.runs.folder import BENCH, RESULTS
from campfire_fx.app.train.checkpoint import SUFFIX, read
from campfire_fx.app.train.models import build_model
from campfire_fx.base.disk.whole import write_text
from campfire_fx.base.errors import BenchError
from campfire_fx.export.bench import bench, sized
from campfire_fx.export.runtimes import RUNTIMES, SUFFIXES, Source
from campfire_fx.report.progress import progress
from campfire_fx.report.runtimes import BenchReport
from campfire_fx.training.model import SparseModel

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...",
        help="Exported files, .ckpt files, run folders, or a MODEL; all are compared with the first.",
        show_default=False,
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--runtime", help=f"Only this runtime. Repeatable: {', '.join(RUNTIMES)}.", show_default="all installed"
    ),
]
Size = Annotated[str | None, typer.Option(help="Image size, as 224 or 224x320.", show_default="the first file's")]
Repeats = Annotated[int, typer.Option(help="Timed calls of each.", min=1)]
Csv = Annotated[Path | None, typer.Option(help="Also write the table as CSV.", show_default="no")]


def bench_command(
    sources: Sources,
    only: Only = None,
    threads: Annotated[str, typer.Option(help="CPU threads: a number, or all.")] = "1",
    batch: Annotated[int, typer.Option(help="Samples per call.", min=1)] = 1,
    size: Size = None,
    example: Example = None,
    repeats: Repeats = 20,
    model: OwnModel = None,
    option: ModelArguments = None,
    csv: Csv = None,
    as_json: AsJson = False,
) -> None:
    """Time files and models side by side in torch, torch.compile, ONNX Runtime, OpenVINO and MNN.

    A file is opened by the runtimes that it is for, as far as they are installed. All are called in turn. What a run
    folder's files take is kept in its bench.json, and is part of the run's next `report`.

    **Examples**

        campfire-fx bench dense.onnx slim.onnx slim.mnn
        campfire-fx bench runs/digits --runtime "torch eager" --runtime "ONNX Runtime"
        campfire-fx bench resnet50 slim.safetensors --size 224 --threads all --csv times.csv
    """
    settings, space = _settings(sources, model, option), _size(size)
    named: dict[str, Source] = {}
    with progress("Timing"):
        for source in sources:
            for name, found in _found(source, model, settings).items():
                named[name if name not in named else f"{name} of {source}"] = found
        record = bench(
            named,
            example_inputs(example) or _trained_with(sources, batch, space),
            batch=batch,
            size=space,
            threads=_threads(threads),
            runtimes=only or None,
            repeats=repeats,
        )
    kept = [Path(source, BENCH) for source in sources if Path(source, RESULTS).is_file()][:1]
    texts = dict.fromkeys(kept, record.to_json() + "\n") | ({csv: record.to_csv()} if csv else {})
    for path, text in texts.items():
        write_text(path, text, BenchError)
    if as_json:
        print(record.to_json())  # noqa: T201  rich would wrap it
        return
    show(BenchReport(record))
    if texts:
        show(f"Written: {', '.join(map(str, texts))}.")


def _settings(sources: list[str], model: str | None, option: list[str] | None) -> dict[str, object]:
    """Return the arguments of models; refuse them, and a model, where all sources are files that hold their own."""
    if (model or option) and all(Path(source).suffix.lower() in SUFFIXES for source in sources):
        raise typer.BadParameter(
            "--model and --option apply to checkpoints, run folders and models given by name. Leave them out."
        )
    return model_options(option)


def _found(source: str, model: str | None, settings: dict[str, object]) -> dict[str, Source]:
    """Return what one argument stands for, by name."""
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (SUFFIX, *SUFFIXES) and file.is_file())
        if not files:
            raise BenchError(f"cannot time {path}: it holds no file that a runtime opens. Give a run folder, or files.")
        return {name: found for file in files for name, found in _found(str(file), model, settings).items()}
    if path.suffix == SUFFIX:
        network, _ = network_of(path, model, settings)
        return {path.name: network.finalize() if isinstance(network, SparseModel) else network}
    if path.suffix.lower() in SUFFIXES or path.exists():
        return {path.name: path}
    built: nn.Module = build_model(source, **settings)
    return {source: built}


def _trained_with(sources: list[str], batch: int, size: tuple[int, ...] | None) -> tuple[Tensor, ...] | None:
    """Return inputs as those that the first checkpoint was trained with."""
    given = [Path(source) for source in sources]
    files = [file for path in given for file in (sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path])]
    files = [file for file in files if file.suffix == SUFFIX]
    return sized((torch.randn(read(files[0]).shape),), batch, size) if files else None


def _size(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", text):
        raise typer.BadParameter(f"{text!r} of --size is not the size of an image. Write 224, or 224x320.")
    return tuple(map(int, text.split("x")))


def _threads(text: str) -> int | None:
    if text == "all":
        return None
    if not re.fullmatch(r"[1-9]\d*", text):
        raise typer.BadParameter(f"{text!r} of --threads is no number of threads. Write 1, 4, or all.")
    return int(text)
