"""The report of a run: one HTML page that holds its tables and pictures; the template `report.html` lays it out."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from campfire_fx.app.runs.folder import RunFolder
from campfire_fx.app.runs.verdict import ratio_of, settings_told, unbroken, verdict
from campfire_fx.app.train.observers import Epoch
from campfire_fx.app.train.outcome import LATENCY_BATCH
from campfire_fx.base.disk.whole import told_as, write_text
from campfire_fx.base.errors import ReportError
from campfire_fx.base.version import __version__
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.report import pictures
from campfire_fx.report.attack import attack_notes, attack_tables
from campfire_fx.report.numbers import TIME_NOTE, count, percent, shape, size, time_share, whole
from campfire_fx.report.palette import NETWORKS, css_variables
from campfire_fx.report.runtimes import HEADS, bench_notes, bench_rows

if TYPE_CHECKING:
    from campfire_fx.report.pictures import Figure

_MOST_MASKS = 6
_CURVES: tuple[tuple[Literal["accuracy", "loss"], str, str], ...] = (
    ("accuracy", "Validation accuracy", "valid"),
    ("loss", "Training loss", "loss"),
)


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture of a section, and the text for those who cannot see it."""

    section: str
    name: str
    figure: Figure
    alternative: str


def write_report(run: RunFolder, target: Path, *, pictures_folder: Path | None = None) -> list[Path]:
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
    for path, folder in ((target, target.parent), (pictures_folder, pictures_folder)):
        if path is not None and ((path == target and path.is_dir()) or (folder is not None and folder.is_file())):
            raise ReportError(f"{path}: it cannot be both a file and a folder. Give another name.")
    shown: defaultdict[str, list[str]] = defaultdict(list)
    drawn = list(_pictures(run))
    for picture in drawn:
        shown[picture.section].append(pictures.inline_svg(picture.figure, picture.alternative))
    write_text(target, _page(run, shown), ReportError)
    if pictures_folder is None:
        return [target]
    with told_as(ReportError, pictures_folder, "Folder"):
        pictures_folder.mkdir(parents=True, exist_ok=True)
    return [target, *(pictures.save(one.figure, pictures_folder / f"{one.name}.png") for one in drawn)]


def _page(run: RunFolder, shown: Mapping[str, list[str]]) -> str:
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {f.__name__: f for f in (count, percent, shape, size, whole)}
    environment.filters |= {"fixed": "{:.2f}".format, "unbroken": unbroken}
    config = run.folder / "config.yaml"
    return environment.get_template("report.html").render(
        run=run,
        title=_title(run),
        pictures=shown,
        latency_batch=LATENCY_BATCH,
        attack_tables=attack_tables,
        attack_notes=attack_notes,
        bench_heads=HEADS,
        bench_rows=bench_rows,
        bench_notes=bench_notes,
        verdict=verdict(run.results.get("rows", [])),
        palette=NETWORKS,
        time_note=TIME_NOTE,
        times=_times(run.results.get("rows", [])),
        colours=css_variables(),
        settings=dict(settings_told(run.settings)),
        config=config.read_text(encoding="utf-8", errors="replace") if config.exists() else "",
        python=platform.python_version(),
        version=__version__,
        torch=torch.__version__,
    )


def _times(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how the time of each network compares with the first one's; nothing where none was compared."""
    told = [("" if ratio is None else time_share(ratio)) for ratio in map(ratio_of, rows)]
    return told if any(told) else []


def _title(run: RunFolder) -> str:
    model = run.settings.get("model") or (run.checkpoint.model if run.checkpoint else "A run")
    data = run.settings.get("data")
    return f"{model} on {Path(data).name}" if data else f"{model}, {run.folder.name}"


def _pictures(run: RunFolder) -> Iterator[_Picture]:
    """Draw what there is to draw, in the order of the page."""
    rows = run.results.get("rows", [])
    if rows:
        sized = [pictures.Sized(row["name"], row["right"], row["images"], row["parameters"]) for row in rows]
        alternative = "Accuracy of each network against its number of parameters."
        yield _Picture("Networks", "accuracy-against-size", pictures.size_tradeoff(sized), alternative)
    yield from _of_training(run)
    if run.sparse is not None:
        figure = pictures.layer_sparsity(run.sparse.sparsity())
        yield _Picture("Sparsity", "layer-sparsity", figure, "Masked share of the weights of each layer.")
    for name, mask in _some(dict(_pruned_masks(run))):
        alternative = f"The mask of {name} as a grid of kernels, filters by channels."
        yield _Picture("Masks", f"mask-{name}", pictures.mask_grid(mask, name=name), alternative)
    if run.slim is not None:
        figure = pictures.channel_survival(run.slim.plan.layers)
        alternative = "Channels of each layer before and after the shrink."
        yield _Picture("Channels", "channel-survival", figure, alternative)
    if run.attack is not None:
        figure = pictures.robustness_curves(run.attack)
        yield _Picture("Robustness", "attack", figure, "Accuracy of each network over the size of a step.")


def _of_training(run: RunFolder) -> Iterator[_Picture]:
    era = run.sparse.sparsity().era if run.sparse is not None else None
    epochs = run.log.get("sparse", ())
    # A line of the log has the masks as its epoch ends: those of the next one.
    moments = [
        pictures.SparsityPoint(e.epoch + 1, e.target, e.sparsity, e.kernels, e.window)
        for e in epochs
        if e.target is not None
    ]
    if moments:
        figure = pictures.sparsity_course(moments, era=era)
        yield _Picture("Training", "sparsity-course", figure, "Target and true sparsity over the epochs.")
    residuals = [pictures.Residuals(e.epoch + 1, e.primal, e.dual) for e in epochs if e.primal is not None]
    if residuals:
        figure = pictures.residual_course(residuals, era=era)
        yield _Picture("Training", "residual-course", figure, "Primal and dual residual of ADMM over the epochs.")
    for what, title, field in _CURVES:
        curves = {name: curve for name, logged in run.log.items() if (curve := _curve(logged, field))}
        if curves:
            figure = pictures.training_course(curves, what=what, era=era)
            name = title.lower().replace(" ", "-")
            yield _Picture("Training", name, figure, f"{title} of each network over the epochs.")


def _curve(epochs: Sequence[Epoch], field: str) -> list[tuple[int, float]]:
    values = ((epoch.epoch, getattr(epoch, field)) for epoch in epochs)
    return [(epoch, value) for epoch, value in values if value is not None]


def _pruned_masks(run: RunFolder) -> Iterator[tuple[str, torch.Tensor]]:
    if run.sparse is None:
        return
    for layer in run.sparse.sparsity().pruned:
        module = run.sparse.get_submodule(layer.name)
        if isinstance(module, MaskedLayer):
            yield layer.name, module.mask


def _some(masks: dict[str, torch.Tensor]) -> list[tuple[str, Any]]:
    """Return a few masks, spread from the input to the output."""
    every, n = list(masks.items()), min(_MOST_MASKS, len(masks))
    step = (len(every) - 1) / max(1, n - 1)
    return [every[i] for i in dict.fromkeys(round(i * step) for i in range(n))]
