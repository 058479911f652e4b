"""The report of a run: one HTML page that holds its tables and pictures."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from campfire_fx.app.runs.folder import Run
from campfire_fx.app.runs.log import LoggedEpoch
from campfire_fx.app.runs.page import Page
from campfire_fx.app.train.outcome import LATENCY_BATCH
from campfire_fx.base.disk.whole import told_as, write_bytes, write_text
from campfire_fx.base.errors import ReportError
from campfire_fx.base.version import __version__
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.report import pictures
from campfire_fx.report.attack import attack_notes, points
from campfire_fx.report.numbers import count, percent, shape, size

if TYPE_CHECKING:
    from campfire_fx.report.pictures import Figure

_MOST_MASKS = 6


def write_report(run: Run, target: Path, *, pictures_folder: Path | None = None) -> list[Path]:
    """Write the report of a run as HTML; nothing in the file is fetched from elsewhere.

    Args:
        run: from `read_run`.
        target: the .html file.
        pictures_folder: also write every picture as a PNG file into this folder.

    Returns:
        The files written, the page first.

    Raises:
        ReportError: matplotlib is not installed, or a file cannot be written.
    """
    drawn: dict[str, bytes] = {}
    page = Page(_title(run))
    for part in (_summary, _training, _sparsity, _masks, _channels, _robustness, _files, _settings):
        part(run, page, drawn)
    write_text(target, page.html(f"campfire_fx {__version__}, torch {torch.__version__}."), ReportError)
    if pictures_folder is None:
        return [target]
    with told_as(ReportError, pictures_folder, "Folder"):
        pictures_folder.mkdir(parents=True, exist_ok=True)
    written = {pictures_folder / f"{name}.png": png for name, png in drawn.items()}
    for path, png in written.items():
        write_bytes(path, png, ReportError)
    return [target, *written]


def _title(run: Run) -> str:
    model = run.settings.get("model") or (run.checkpoint.model if run.checkpoint else "A run")
    data = run.settings.get("data")
    return f"{model} on {Path(data).name}" if data else f"{model}, {run.folder.name}"


def _show(page: Page, drawn: dict[str, bytes], name: str, figure: Figure, alternative: str) -> None:
    drawn[name] = pictures.png(figure)
    page.picture(drawn[name], alternative)


def _summary(run: Run, page: Page, drawn: dict[str, bytes]) -> None:
    if run.sparse is not None:
        record = run.sparse.sparsity()
        page.text(
            f"Trained sparse by {record.regime}: {percent(record.true)} of the weights of the pruned layers are masked"
            f" (asked: {percent(record.final)}), {percent(record.overall)} of all parameters."
        )
    if run.slim is not None and run.slim.verification is not None:
        page.text(
            f"Shrunk to the same output: the largest relative difference to the sparse network is"
            f" {run.slim.verification.difference:.1e}."
        )
    rows = run.results.get("rows", [])
    if not rows:
        page.text("The run has not come to its end: there is no final table.")
        return
    page.section("Networks")
    five = ("top-5",) if any(row.get("top5") is not None for row in rows) else ()
    page.table(
        ("network", "accuracy", *five, "parameters", "non-zero", "MACs", "latency", "file"),
        [_row(row, top5=bool(five)) for row in rows],
    )
    page.text(
        f"Accuracy on {rows[0]['images']:,} test images; one is {percent(1 / rows[0]['images'], 2)}. MACs: one image."
        f" Latency: median of a batch of {LATENCY_BATCH}. File: .safetensors and its code. One recipe, one seed: small"
        f" differences mean little.",
        note=True,
    )
    sized = [pictures.Sized(row["name"], row["right"], row["images"], row["parameters"]) for row in rows]
    figure = pictures.size_tradeoff(sized)
    _show(page, drawn, "accuracy-against-size", figure, "Accuracy of each network against its number of parameters.")


def _row(row: Mapping[str, Any], *, top5: bool) -> tuple[str, ...]:
    return (
        row["name"],
        percent(row["accuracy"], 2),
        *((percent(row["top5"], 2),) if top5 else ()),
        f"{row['parameters']:,}",
        f"{row['nonzero']:,}",
        count(row["macs"]),
        f"{row['latency_ms']:.2f} ms",
        size(row["bytes"]),
    )


def _training(run: Run, page: Page, drawn: dict[str, bytes]) -> None:
    if not run.log:
        return
    page.section("Training")
    era = run.sparse.sparsity().era if run.sparse is not None else None
    moments = [  # a line of the log has the masks as its epoch ends: those of the next one
        pictures.Moment(epoch.epoch + 1, epoch.target, epoch.sparsity, epoch.kernels, epoch.window)
        for epoch in run.log.get("sparse", ())
        if epoch.target is not None
    ]
    if moments:
        figure = pictures.sparsity_course(moments, era=era)
        _show(page, drawn, "sparsity-course", figure, "Target and true sparsity over the epochs.")
    residuals = [
        pictures.Residuals(epoch.epoch + 1, epoch.primal, epoch.dual)
        for epoch in run.log.get("sparse", ())
        if epoch.primal is not None
    ]
    if residuals:
        figure = pictures.residual_course(residuals, era=era)
        _show(page, drawn, "residual-course", figure, "Primal and dual residual of ADMM over the epochs.")
    for what, told, field in (("accuracy", "Validation accuracy", "valid"), ("loss", "Training loss", "loss")):
        curves = {name: _curve(epochs, field) for name, epochs in run.log.items()}
        curves = {name: curve for name, curve in curves.items() if curve}
        if curves:
            figure = pictures.training_course(curves, what=cast(Any, what), era=era)
            _show(page, drawn, told.lower().replace(" ", "-"), figure, f"{told} of each network over the epochs.")
    page.table(
        ("network", "epochs", "last loss", "validation accuracy", "time"),
        [
            (
                name,
                f"{len(epochs)}",
                "-" if epochs[-1].loss is None else f"{epochs[-1].loss:.4f}",
                "-" if epochs[-1].valid is None else percent(epochs[-1].valid, 2),
                f"{sum(epoch.seconds or 0 for epoch in epochs):.0f} s",
            )
            for name, epochs in run.log.items()
        ],
    )


def _curve(epochs: Sequence[LoggedEpoch], field: str) -> list[tuple[int, float]]:
    values = ((epoch.epoch, getattr(epoch, field)) for epoch in epochs)
    return [(epoch, value) for epoch, value in values if value is not None]


def _sparsity(run: Run, page: Page, drawn: dict[str, bytes]) -> None:
    if run.sparse is None:
        return
    record = run.sparse.sparsity()
    page.section("Sparsity")
    _show(page, drawn, "layer-sparsity", pictures.layer_sparsity(record), "Masked share of the weights of each layer.")
    page.table(
        ("layer", "operation", "weight", "target", "true", "dead kernels", "dead filters", "why dense"),
        [
            (
                layer.name,
                layer.operation,
                shape(layer.shape),
                "-" if layer.reason else percent(layer.target),
                percent(layer.true),
                f"{layer.dead_kernels:,} of {layer.kernels:,}",
                f"{layer.dead_filters:,} of {layer.filters:,}",
                layer.reason,
            )
            for layer in record.layers
        ],
        text=(0, 1, 7),
    )


def _masks(run: Run, page: Page, drawn: dict[str, bytes]) -> None:
    if run.sparse is None:
        return
    masks = dict(_pruned_masks(run))
    if not masks:
        return
    page.section("Masks")
    step = (len(masks) - 1) / max(1, min(_MOST_MASKS, len(masks)) - 1)
    names = list(masks)
    shown = list(dict.fromkeys(names[round(i * step)] for i in range(min(_MOST_MASKS, len(names)))))
    if len(shown) < len(names):
        page.text(f"{len(shown)} of {len(names)} pruned layers, spread from the input to the output.", note=True)
    for name in shown:
        figure = pictures.mask_grid(masks[name], name=name)
        _show(page, drawn, f"mask-{name}", figure, f"The mask of {name} as a grid of kernels, filters by channels.")


def _pruned_masks(run: Run) -> Iterator[tuple[str, torch.Tensor]]:
    assert run.sparse is not None
    for layer in run.sparse.sparsity().pruned:
        module = run.sparse.get_submodule(layer.name)
        if isinstance(module, MaskedLayer):
            yield layer.name, module.mask


def _channels(run: Run, page: Page, drawn: dict[str, bytes]) -> None:
    if run.slim is None:
        return
    layers = run.slim.plan.layers
    page.section("Channels")
    figure = pictures.channel_survival(layers)
    _show(page, drawn, "channel-survival", figure, "Channels of each layer before and after the shrink.")
    page.table(
        ("layer", "operation", "weight before", "weight after", "inputs", "outputs", "why no smaller"),
        [
            (
                layer.name,
                layer.operation,
                shape(layer.weight_before),
                shape(layer.weight_after),
                f"{layer.inputs[1]:,} of {layer.inputs[0]:,}",
                f"{layer.outputs[1]:,} of {layer.outputs[0]:,}",
                layer.reason,
            )
            for layer in layers
        ],
        text=(0, 1, 6),
    )


def _robustness(run: Run, page: Page, drawn: dict[str, bytes]) -> None:
    record = run.attack
    if record is None:
        return
    page.section("Robustness")
    _show(
        page, drawn, "attack", pictures.robustness_curves(record), "Accuracy of each network over the size of a step."
    )
    page.table(
        ("accuracy at epsilon", *(f"{epsilon:.4g}" for epsilon in record.epsilons)),
        [(curve.name, *(percent(share.value, 2) for share in record.accuracy(curve))) for curve in record.curves],
    )
    first, *others = record.curves
    if others:
        page.table(
            ("points, 95 % interval", *(f"{curve.name} less {first.name}" for curve in others)),
            [
                (f"epsilon {epsilon:.4g}", *(points(curve.against[i]) for curve in others))
                for i, epsilon in enumerate(record.epsilons)
            ],
        )
    for note in attack_notes(record):
        page.text(note, note=True)


def _files(run: Run, page: Page, drawn: dict[str, bytes]) -> None:  # noqa: ARG001  as the other parts
    files = run.results.get("reloaded", [])
    if not files:
        return
    page.section("Exported files")
    page.text("Each was loaded again and compared with the slim network on the test images.")
    page.table(
        ("file", "bytes", "largest relative difference", "same answers"),
        [
            (file["file"], f"{file['bytes']:,}", f"{file['difference']:.1e}", f"{file['same']:,} of {file['images']:,}")
            for file in files
        ],
    )


def _settings(run: Run, page: Page, drawn: dict[str, bytes]) -> None:  # noqa: ARG001  as the other parts
    told = {name: value for name, value in run.settings.items() if name != "recipe"} | dict(
        run.settings.get("recipe", {})
    )
    if not told:
        return
    page.section("Settings")
    rows = [(name.replace("_", " "), "-" if value is None else str(value)) for name, value in told.items()]
    page.table(("setting", "value"), [*rows, ("python", platform.python_version())], text=(0, 1))
