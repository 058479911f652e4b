"""The main job: dense, sparse, slim and slim-from-scratch by one recipe, exported, reloaded and compared."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from campfire_fx.app.train.checkpoint import SUFFIX, Checkpoint, save
from campfire_fx.app.train.checkpoint_manager import USUAL, CheckpointManager, Every, prepare
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.files import export_and_reload
from campfire_fx.app.train.first import First, first_network
from campfire_fx.app.train.frozen import freeze
from campfire_fx.app.train.host import Host
from campfire_fx.app.train.loop import fit, fit_smaller
from campfire_fx.app.train.networks import restart
from campfire_fx.app.train.observers import Epoch, Observer, Observers
from campfire_fx.app.train.outcome import LATENCY_BATCH, Outcome, Reloaded, Row, row_of
from campfire_fx.app.train.recipe import Recipe
from campfire_fx.app.train.tally import Tally, tally
from campfire_fx.app.train.trackers import Tracking
from campfire_fx.app.train.trained import TrainedWeights
from campfire_fx.app.train.training_log import TrainingLog
from campfire_fx.base.choices import Residual
from campfire_fx.base.disk.lock import alone_in
from campfire_fx.base.disk.whole import write_text
from campfire_fx.base.errors import TrainError
from campfire_fx.cost.measure import latencies
from campfire_fx.export import export
from campfire_fx.report.numbers import percent
from campfire_fx.shrink.slim import SlimModel
from campfire_fx.training.model import SparseModel
from campfire_fx.training.sparsify import sparsify

Show = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class JobSettings:
    """What to train and where to put it.

    Attributes:
        model: name, as `build_model` takes it.
        regime, sparsity: as `sparsify` takes them; the era is the recipe's.
        residual: as `shrink` takes it.
        seed: of initial weights and of the order and augmentation of images, the same for every network.
        folder: for checkpoints and exported files.
        networks: "all"; "sparse" (and its slim form); "no-dense", that and the slim widths from scratch; or "dense".
        formats: suffixes of the files to export; None: those whose packages are there.
        resume: as `prepare` takes it.
        interval: how often a run checkpoint is written.
        trackers: names of TRACKERS, which are told of the trainings.
        data_root: where data sets known by name lie; only noted.
        arguments: other arguments of `sparsify`, as plain data.
        reconfigure: whether the sparse network is made smaller between epochs, where that pays.
        start: trained weights from which dense and sparse start; None: new ones.
        options: arguments of the model that the user named.
        config: of config.yaml, the text; None: none is written.
        freeze: patterns of modules that stay as they are, as `freeze` takes them.
    """

    model: str
    regime: str
    sparsity: float
    residual: Residual
    seed: int
    folder: Path
    networks: str = "all"
    formats: tuple[str, ...] | None = None
    resume: str | None = None
    interval: Every = USUAL
    trackers: tuple[str, ...] = ()
    data_root: Path = Path("data")
    arguments: Mapping[str, Any] = field(default_factory=dict)
    reconfigure: bool = False
    start: TrainedWeights | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    config: str | None = None
    freeze: tuple[str, ...] = ()


def run(settings: JobSettings, data: ImageData, recipe: Recipe, *, show: Show, host: Host | None = None) -> Outcome:
    """Run the whole job. Every network gets the same recipe, seed and images; test images are used once, at the end.

    From trained weights, dense and sparse go on; slim from scratch has new ones, and the learning rate for them.

    Of several processes, all train; the first one alone exports, compares, writes and shows.

    Args:
        settings: what to train.
        data: images.
        recipe: how to train.
        show: called with each report as soon as there is one.
        host: this process among others; its checkpoints and its log are the job's own.

    Raises:
        TrainError: another live process writes into the folder, or nothing can be written there.
    """
    with ExitStack() as held:  # rank 0 holds the folder for all
        host = host or Host()
        host.ranks.from_first(lambda: held.enter_context(alone_in(settings.folder, TrainError)))
        return _run(settings, data, recipe, show=show, host=host)


def _run(settings: JobSettings, data: ImageData, recipe: Recipe, *, show: Show, host: Host) -> Outcome:
    began = time.perf_counter()
    host = _own_host(settings, data, recipe, host)
    if not host.ranks.first:
        show = _silent
    first = first_network(settings.model, data, settings.seed, settings.start, settings.options)
    dense, data = first.network, first.data
    host = replace(host, frozen=freeze(dense, settings.freeze, len(data.classes)))
    for told in filter(None, (first.told, host.frozen.told)):
        show(told)
    example = torch.randn(1, *data.shape)
    arguments = {"regime": settings.regime, "sparsity": settings.sparsity, "era": recipe.era, **settings.arguments}
    arguments |= {"frozen": host.frozen.layers} if host.frozen.layers else {}

    networks: dict[str, nn.Module] = {"dense": dense}
    if settings.networks != "dense":
        sparse = sparsify(dense, example_inputs=example, **arguments)  # a copy: both start from the same weights
        networks = networks | {"sparse": sparse} if settings.networks == "all" else {"sparse": sparse}
    for name, network in networks.items():
        if recipe.distill and name != "dense":
            host = replace(host, teacher=copy.deepcopy(networks.get("dense", dense)).to(host.ranks.device))
        networks[name], epochs, snapshots = _fitted(network, name, settings, data, recipe, host)
        show(_told(name, epochs))
        asked = arguments if isinstance(network, SparseModel) else None
        saved = _checkpoint(networks[name].cpu(), first, settings, recipe, asked)
        saved = replace(saved, smaller={"snapshots": snapshots} if snapshots else None)
        if host.ranks.first:
            save(saved, settings.folder / f"{name}{SUFFIX}")
    if isinstance(trained := networks.get("sparse"), SparseModel):
        networks |= _slim(trained, settings, data, recipe, show=show, host=host)
    outcome = _compare(networks, settings, data, host=host)
    outcome = replace(outcome, seconds=time.perf_counter() - began, settings=_noted(settings, data, recipe, host))
    if host.ranks.first:
        write_text(settings.folder / "results.json", outcome.to_json() + "\n", TrainError)
    return outcome


def _fitted(
    network: nn.Module, name: str, settings: JobSettings, data: ImageData, recipe: Recipe, host: Host
) -> tuple[nn.Module, tuple[Epoch, ...], list[dict[str, Any]]]:
    """Train a network; return it, or the smaller one that it became, its epochs, and how it became that."""
    if settings.reconfigure and isinstance(network, SparseModel):
        return fit_smaller(network, data, recipe, seed=settings.seed, title=name, host=host)
    return network, fit(network, data, recipe, seed=settings.seed, title=name, host=host), []


def _checkpoint(
    network: nn.Module, first: First, settings: JobSettings, recipe: Recipe, asked: dict[str, Any] | None
) -> Checkpoint:
    noted = {name: getattr(recipe, name) for name in ("resize", "interpolation", "augment")}
    images: dict[str, Any] = {"mean": first.data.mean, "std": first.data.std, **noted}
    shape = (1, *first.data.shape)
    state = network.state_dict()
    return Checkpoint(settings.model, first.options, shape, asked, state, images=images, start=first.start)


def _own_host(settings: JobSettings, data: ImageData, recipe: Recipe, host: Host) -> Host:
    """Make the output folder ready, and return the host with what writes there."""
    host.ranks.from_first(lambda: prepare(settings.folder, settings.resume))
    facts = {
        "model": settings.model,
        "regime": settings.regime,
        "sparsity": settings.sparsity,
        "seed": settings.seed,
        "processes": host.ranks.count,
        "classes": data.classes,
        "images": len(data.train),
        "shape": data.shape,
        "settings": dict(settings.arguments) or None,  # as it was before there were any
        "reconfigure": settings.reconfigure or None,
        "options": dict(settings.options) or None,
        "freeze": settings.freeze or None,
        "weights of SHA-256": settings.start.sha256 if settings.start else None,
        **asdict(recipe),
    }
    checkpoints = CheckpointManager(settings.folder, facts, settings.interval)
    if settings.config is not None and host.ranks.first:
        write_text(settings.folder / "config.yaml", settings.config, TrainError)
    return replace(host, checkpoints=checkpoints, observer=_observer(settings, data, recipe, host))


def _observer(settings: JobSettings, data: ImageData, recipe: Recipe, host: Host) -> Observer:
    """Return what is told of the trainings, which the first process does: the log first, what people see last."""
    if not host.ranks.first:
        return Observer()
    observers: list[Observer] = [TrainingLog(settings.folder)]
    if settings.trackers:
        observers.append(Tracking(settings.folder, settings.trackers, _noted(settings, data, recipe, host)))
    return Observers(*observers, host.observer)


def _silent(_content: Any) -> None:
    return


def _told(name: str, epochs: tuple[Epoch, ...]) -> str:
    last, seconds = epochs[-1], sum(epoch.seconds or 0 for epoch in epochs)
    assert last.loss is not None and last.valid is not None  # training fills them in
    five = "" if last.valid5 is None else f", top-5 {percent(last.valid5)}"
    return f"Trained {name} in {seconds:.0f} s: loss {last.loss:.4f}, validation accuracy {percent(last.valid)}{five}."


def _slim(
    sparse: SparseModel, settings: JobSettings, data: ImageData, recipe: Recipe, *, show: Show, host: Host
) -> dict[str, nn.Module]:
    """Shrink the sparse network; train the slim widths from scratch, if all networks are wanted."""
    show(sparse.report())
    slim = sparse.eval().shrink(settings.residual)
    show(slim.report())
    if settings.networks == "sparse" or settings.freeze:  # nothing of new weights could stay as it is
        return {"slim": slim}
    name = "slim from scratch"
    scratch = _from_scratch(slim, settings.seed)
    show(_told(name, fit(scratch, data, recipe.for_new_weights(), seed=settings.seed, title=name, host=host)))
    return {"slim": slim, name: scratch.cpu()}


def _from_scratch(slim: SlimModel, seed: int) -> nn.Module:
    """Return the slim architecture with new weights, started as the dense network was."""
    scratch = copy.deepcopy(slim)
    torch.manual_seed(seed)
    return restart(scratch)


def _noted(settings: JobSettings, data: ImageData, recipe: Recipe, host: Host) -> dict[str, Any]:
    """Return what a reader of the results may want to know of how they came about."""
    names = ("model", "networks", "regime", "sparsity", "residual", "seed")
    told = {"data": data.name, "data_root": str(settings.data_root), "image_size": data.shape[-1]}
    told |= {name: getattr(settings, name) for name in names}
    if settings.start is not None:
        told |= {"start": settings.start.source, "start_sha256": settings.start.sha256}
    told |= {"freeze": list(settings.freeze)} if settings.freeze else {}
    told |= {"given": {"channels": data.shape[0], "mean": data.mean, "std": data.std}}
    return told | {"sparsify": settings.arguments, "processes": host.ranks.count, "recipe": asdict(recipe)}


def _compare(networks: dict[str, nn.Module], settings: JobSettings, data: ImageData, *, host: Host) -> Outcome:
    """Test every network, in all processes; then measure and export them, in the first."""
    tested = {}
    for name, network in networks.items():
        tested[name] = tally(network.eval().to(host.ranks.device), data.test, data, share=host.share)
        network.cpu()
    skipped = tuple(host.ranks.joined(data.skips.names))

    def measured() -> Outcome:
        rows = _rows(networks, tested, data, settings.folder)
        for row in rows:
            host.observer.tested(row.name, row.numbers())
        reloaded = (
            export_and_reload(networks["slim"], data, settings.folder, settings.formats) if "slim" in networks else ()
        )
        outcome = _outcome(networks, rows, reloaded, watched=data.valid is data.test)
        if skipped:
            write_text(settings.folder / "skipped.txt", "".join(f"{name}\n" for name in skipped), TrainError)
        return replace(outcome, skipped=skipped)

    return host.ranks.from_first(measured)


def _rows(networks: dict[str, nn.Module], tested: dict[str, Tally], data: ImageData, folder: Path) -> tuple[Row, ...]:
    times = latencies(networks, (torch.randn(LATENCY_BATCH, *data.shape),))
    rows = []
    for name, network in networks.items():
        example = torch.randn(1, *data.shape)
        size = export(network, folder / f"{name.replace(' ', '-')}.safetensors", example).bytes
        rows.append(row_of(network, example, times[name], name=name, tested=tested[name], size=size))
    return tuple(rows)


def _outcome(
    networks: dict[str, nn.Module], rows: tuple[Row, ...], reloaded: tuple[Reloaded, ...], *, watched: bool
) -> Outcome:
    sparse, slim = networks.get("sparse"), networks.get("slim")
    if not isinstance(sparse, SparseModel) or not isinstance(slim, SlimModel):
        return Outcome(rows, reloaded, None, None, None, 0.0, watched)
    record = sparse.sparsity()
    assert slim.verification is not None  # shrink verifies unless told not to
    found = Outcome(rows, reloaded, record.target, record.true, slim.verification.difference, 0.0, watched)
    return replace(found, costs=record.costs)
