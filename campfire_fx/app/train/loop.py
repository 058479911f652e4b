"""The training loop: any module, any of the data sets, one recipe; it goes on where a checkpoint says it stood."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer

from campfire_fx.app.train.batches import TrainBatches
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.host import Host
from campfire_fx.app.train.observers import Course, Epoch
from campfire_fx.app.train.recipe import Recipe
from campfire_fx.app.train.rounds import RoundsOfTraining
from campfire_fx.app.train.seeds import seed_step
from campfire_fx.app.train.stopping import Stopped
from campfire_fx.app.train.tally import Tally, tally
from campfire_fx.base.errors import TrainError
from campfire_fx.training.distillation import distillation_loss, teach
from campfire_fx.training.gather import gather_first
from campfire_fx.training.model import SparseModel
from campfire_fx.training.smaller import Smaller


def fit(
    network: nn.Module, data: ImageData, recipe: Recipe, *, seed: int, title: str, host: Host | None = None
) -> tuple[Epoch, ...]:
    """Train a network in place by a recipe; a SparseModel's masks ride on the optimizer.

    The same network, data, recipe and seed give the same weights on the same machine, whether or not the run was
    stopped in between and went on from the host's checkpoints.

    Raises:
        TrainError: the loss is no longer finite, or a checkpoint is of another run.
        Stopped: a signal came; the run is saved.
    """
    training = _Training(network, data, recipe, seed=seed, title=title, host=host or Host())
    return training.run()


class Fitted(NamedTuple):
    """What `fit_smaller` gives: the smaller network, its epochs, and the snapshots from which it is made again."""

    network: SparseModel
    epochs: tuple[Epoch, ...]
    snapshots: list[dict[str, Any]]


def fit_smaller(
    network: SparseModel, data: ImageData, recipe: Recipe, *, seed: int, title: str, host: Host | None = None
) -> Fitted:
    """Train a sparse network as `fit` does, and make it smaller between epochs where that pays.

    The network given is left behind on the way.
    """
    training = _Training(network, data, recipe, seed=seed, title=title, host=host or Host())
    training.rounds.require_none("--reconfigure")
    training.smaller = Smaller(network)
    epochs = training.run()
    assert isinstance(training.network, SparseModel)
    return Fitted(training.network, epochs, training.smaller.snapshots)


@dataclass(slots=True)
class _Place:
    """How far a training has come: epochs done, and steps, summed loss and seconds of the one in hand."""

    epoch: int = 0
    step: int = 0
    total: float = 0.0
    seconds: float = 0.0
    history: tuple[Epoch, ...] = field(default=())

    def to_plain(self) -> dict[str, Any]:
        return asdict(self) | {"history": [asdict(epoch) for epoch in self.history]}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> _Place:
        return cls(**plain | {"history": tuple(Epoch(**epoch) for epoch in plain["history"])})


class _Training:
    def __init__(
        self, network: nn.Module, data: ImageData, recipe: Recipe, *, seed: int, title: str, host: Host
    ) -> None:
        self.network, self.data, self.recipe, self.seed, self.title, self.host = (
            network,
            data,
            recipe,
            seed,
            title,
            host,
        )
        self.ranks = host.ranks
        host.frozen.hold(network.to(self.ranks.device))
        self.batches = TrainBatches(data, recipe.batch, seed, moved=recipe.augment != "none", share=host.share)
        self.optimizer = make_optimizer(network, recipe)
        if isinstance(network, SparseModel):
            torch.manual_seed(seed)  # a first mask may be drawn at random, whatever was trained before
            gather_first(network, network._life_cycle, self._loss, self.batches.epoch(0))
            network.attach(self.optimizer, steps_per_epoch=len(self.batches))
        self.rounds = RoundsOfTraining(network, self.optimizer, recipe, len(self.batches))
        self.place = _Place()
        self.smaller: Smaller | None = None
        self.began = time.perf_counter()

    def _loss(self, network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(network(batch[0].to(self.ranks.device)), batch[1].to(self.ranks.device))

    def _objective(self, answer: Tensor, images: Tensor, targets: Tensor) -> Tensor:
        teacher, weight = self.host.teacher, self.recipe.distill
        if teacher is None or weight is None:
            return F.cross_entropy(answer, targets)
        return distillation_loss(answer, teach(teacher, images), targets, weight=weight)

    @property
    def steps(self) -> int:
        """Steps done in all epochs."""
        return self.place.epoch * len(self.batches) + self.place.step

    def run(self) -> tuple[Epoch, ...]:
        self._restore()
        wrapped = self._wrapped()
        course = Course(self.title, self.recipe.epochs, len(self.batches), self.steps)
        with self.host.observer.watching(course, self.place.history):
            while self.place.epoch < self.recipe.epochs:
                self.rounds.epoch(self.place.step)
                self._epoch(wrapped)
                if self.smaller is not None and self.smaller.pays(self.network):
                    self.network = self.smaller.made(self.network, self.optimizer)
                    wrapped = self._wrapped()
                self.host.observer.epoch(self.steps, self.place.history)
                if self.place.epoch == self.recipe.epochs:
                    self._save()
        if isinstance(self.network, SparseModel) and self.network.trains_masked:
            self.network.finalize()  # what trained to the end is pruned once; a checkpoint still has all weights
        elif isinstance(self.network, SparseModel):
            self.network.step()  # masks that wait for an update that will not come
        return self.place.history

    def _wrapped(self) -> nn.Module:
        self.host.frozen.hold(self.network)
        return self.ranks.wrap(self.network)

    def _epoch(self, wrapped: nn.Module) -> None:
        """Do the rest of the epoch in hand: the steps that are left, then the validation images."""
        self.began = time.perf_counter()
        self.host.frozen.hold(self.network.train())
        with self.host.stop.later():
            for images, targets in self.batches.epoch(self.place.epoch, self.place.step):
                self._step(wrapped, images, targets)
        saved = self._save() if self.ranks.count > 1 else None  # later the others would have to wait for it
        try:
            self.host.stop.check()
            self.ranks.same_state(self.network)
            valid = tally(self.network, self.data.valid, self.data, share=self.host.share)
        except Stopped as stopped:
            raise self._stopped(self._save() if self.ranks.count == 1 else saved) from stopped
        self._end_epoch(valid)

    def _end_epoch(self, valid: Tally) -> None:
        at = self.place
        rate = self.rounds.rate_at(self.steps - 1)
        loss = at.total / len(self.batches)
        done = Epoch(at.epoch, loss, valid.accuracy, self._seconds(), rate, valid5=valid.top5)
        if isinstance(self.network, SparseModel):
            record = self.network.sparsity()
            kernels, window = record.shares
            primal, dual = record.residuals
            done = replace(done, target=record.target, sparsity=record.true, kernels=kernels, window=window)
            left = {cost.name: cost.now for cost in record.costs}.get("macs")
            done = replace(done, primal=primal, dual=dual, penalty=record.penalty, macs_left=left)
        self.place = _Place(at.epoch + 1, history=(*at.history, done))

    def _step(self, wrapped: nn.Module, images: Tensor, targets: Tensor) -> None:
        at = self.place
        seed_step(self.seed, self.steps, self.ranks.rank)
        rate = self.rounds.rate_at(self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        device = self.ranks.device
        mixed = self.recipe.precision == "bfloat16"
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            answer = wrapped(images.to(device))
        loss = self._objective(answer.float() if mixed else answer, images.to(device), targets.to(device))
        mean, stop = self._agreed(float(loss.detach()))
        if not math.isfinite(mean):
            checkpoints = self.host.checkpoints
            advice = " Give a lower --learning-rate." if checkpoints is None else checkpoints.advice()
            raise TrainError(f"Loss of {self.title} at epoch {at.epoch}, step {at.step}: it is {mean}.{advice}")
        loss.backward()
        self.optimizer.step()
        at.step, at.total = at.step + 1, at.total + mean
        self.host.observer.step(self.steps, mean, rate)
        if stop:
            self.host.stop.number = stop
            raise self._stopped(self.ranks.from_first(self._save))  # together: who ends first has the others ended
        if self.host.checkpoints is not None and self.ranks.first and self.host.checkpoints.due(self.steps):
            self._save()

    def _agreed(self, loss: float) -> tuple[float, int]:
        """Return the mean loss of all processes, and the signal that any of them was sent, or 0."""
        losses, signals = zip(*self.ranks.gathered(loss, self.host.stop.number), strict=True)
        return sum(losses) / self.ranks.count, int(max(signals))

    def _stopped(self, saved: Path | None) -> Stopped:
        where = f" in training {self.title} at epoch {self.place.epoch}, step {self.place.step}"
        return Stopped(self.host.stop.number, self.host.stop.sentence(where + (f": saved {saved}" if saved else "")))

    def _seconds(self) -> float:
        return self.place.seconds + time.perf_counter() - self.began

    def _save(self) -> Path | None:
        """Write a checkpoint, in the first process; return where."""
        checkpoints = self.host.checkpoints
        if checkpoints is None or not self.ranks.first:
            return None
        with self.host.stop.later():
            place = replace(self.place, seconds=self._seconds()) if self.place.step else self.place
            state: dict[str, Any] = {"model": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
            state |= self.rounds.state()
            if self.smaller is not None:
                state |= {"smaller": self.smaller.snapshots}
            return checkpoints.save(self.title, self.steps, state | {"place": place.to_plain()})

    def _restore(self) -> None:
        """Go on where the last checkpoint stands, if there is one."""
        checkpoints = self.host.checkpoints
        if checkpoints is None:
            return
        content = self.ranks.from_first(lambda: checkpoints.restore(self.title))
        if content is None:
            return
        torch.set_num_threads(content["threads"])  # sums in another order would be other sums
        if self.smaller is not None:
            self.network = self.smaller.again(self.network, self.optimizer, content.get("smaller", []))
        self.network.load_state_dict(content["model"])
        fresh = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": content["optimizer"]["state"], "param_groups": fresh})
        self.rounds.load(content)
        self.place = _Place.from_plain(content["place"])


def make_optimizer(network: nn.Module, recipe: Recipe) -> Optimizer:
    """Return the optimizer of a recipe over all parameters of a network that train."""
    parameters, betas = [one for one in network.parameters() if one.requires_grad], (recipe.momentum, 0.999)
    if recipe.optimizer == "adam":
        return Adam(parameters, recipe.rate, betas, weight_decay=recipe.decay)
    if recipe.optimizer == "adamw":
        return AdamW(parameters, recipe.rate, betas, weight_decay=recipe.decay)
    nesterov = recipe.nesterov and recipe.momentum > 0
    return SGD(parameters, recipe.rate, recipe.momentum, weight_decay=recipe.decay, nesterov=nesterov)
