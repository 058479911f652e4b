"""The course of a sparse training: what every layer is asked for, and how far it has come."""

from __future__ import annotations

import contextlib
import json
import operator
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity.admm import Admm, Iterate
from campfire_fx.sparsity.assignment import Assignment
from campfire_fx.sparsity.fingerprint import Fingerprint
from campfire_fx.sparsity.schedule import aim
from campfire_fx.sparsity.update import Exchange, Moment, exchanges, monotone

_BLOCK = 4096  # bytes; padding keeps the length of the saved form the same as the numbers in it change
_ITERATE = 256  # bytes: more than the saved form of one


@dataclass(slots=True)
class Course:
    """The assignments of all layers and the clock that moves them; saved in the `state_dict`.

    Attributes:
        regime: its name.
        assignments: what each layer is asked for, by path.
        sparsity: the final sparsity asked for, as reports give it.
        epoch: the present epoch, from 0.
        step: optimizer steps taken in this epoch.
        updates: optimizer steps taken in all.
        steps_per_epoch: how many make an epoch; None: the epoch is set by hand. Not saved: it belongs to the loader.
        frozen: `finalize` was called: every layer is due its final sparsity.
        reached: the sparsity each layer's mask was last computed for.
        own: layers whose mask was set by hand; the regime leaves them alone.
        late: masks move after the first update of an epoch (Campfire, Algorithm 2), not before it.
        waiting: an epoch has begun, and its masks wait for its first update.
        iterates: how far ADMM has come in each layer that has such an update, from its era's start on.
    """

    regime: str
    assignments: dict[str, Assignment]
    sparsity: float
    epoch: int = 0
    step: int = 0
    updates: int = 0
    steps_per_epoch: int | None = None
    frozen: bool = False
    reached: dict[str, float] = field(default_factory=dict)
    own: set[str] = field(default_factory=set)
    late: bool = False
    waiting: bool = False
    iterates: dict[str, Iterate] = field(default_factory=dict)

    def copy(self) -> Course:
        """Return a course that goes its own way from here."""
        mine = {name: getattr(self, name).copy() for name in ("assignments", "reached", "own", "iterates")}
        return replace(self, **mine)

    def due(self, assignment: Assignment) -> float:
        """Return the sparsity due now for one layer."""
        return assignment.sparsity * (1.0 if self.frozen else assignment.schedule.fraction(self.epoch))

    def moved(self) -> list[Assignment]:
        """Return the layers whose threshold has risen since their mask was computed."""
        ruled = (a for a in self.assignments.values() if a.rule is not None and a.name not in self.own)
        return [a for a in ruled if not self.keeps_master(a) and self.due(a) > self.reached.get(a.name, 0.0)]

    def keeps_master(self, assignment: Assignment) -> bool:
        """Say whether a layer still trains the weights that are under its mask."""
        return assignment.master is not None and not self.frozen and assignment.name not in self.own

    def masters(self) -> list[Assignment]:
        """Return the layers that still train the weights under their masks."""
        return [a for a in self.assignments.values() if self.keeps_master(a)]

    def aimed(self) -> dict[str, tuple[Assignment, Admm, float]]:
        """Return the layers whose weights ADMM draws in this epoch, with the sparsity that it draws them to."""
        return {
            a.name: (a, a.update, a.sparsity * aim(a.schedule, self.epoch))
            for a in self.assignments.values()
            if isinstance(a.update, Admm) and a.rule is not None and a.name not in self.own and not self.frozen
            if a.schedule.start <= self.epoch < a.schedule.end
        }

    def exchanging(self) -> dict[str, Exchange]:
        """Return the layers whose weights change places in the era (drop and grow), and how."""
        ruled = (a for a in self.assignments.values() if a.rule is not None)
        return {a.name: a.update for a in ruled if exchanges(a.update)}

    def exchange_due(self, name: str, update: Exchange) -> bool:
        """Say whether weights of an exchanging layer change places right before the next optimizer step."""
        schedule = self.assignments[name].schedule
        in_era = schedule.start <= self.epoch < schedule.end and not self.frozen and name not in self.own
        return in_era and self.updates > 0 and self.updates % update.period == 0

    def moment(self, name: str) -> Moment:
        """Return how far a layer's era has come."""
        schedule = self.assignments[name].schedule
        epochs = self.epoch + (self.step / self.steps_per_epoch if self.steps_per_epoch else 0)
        return Moment((epochs - schedule.start) / (schedule.end - schedule.start), self.updates)

    def iterate_now(self, name: str) -> Iterate | None:
        """Return what ADMM did in a layer as the present epoch began, or None if nothing."""
        last = self.iterates.get(name)
        return last if last is not None and last.epoch == self.epoch else None

    def tick(self) -> bool:
        """Count one optimizer step; whether a new epoch has begun."""
        if self.steps_per_epoch is None:
            return False
        self.step += 1
        if self.step < self.steps_per_epoch:
            return False
        self.step = 0
        self.epoch += 1
        return True

    def to_tensor(self) -> Tensor:
        """Return the course as JSON in a uint8 tensor: it fits every format that holds tensors."""
        layers = {a.name: _layer_state(a) for a in self.assignments.values()}
        state = {name: getattr(self, name) for name in (*_PLAIN_FIELDS, *_LATER_FIELDS)} | {
            "own": sorted(self.own),
            "layers": layers,
        }
        room = len(json.dumps(state)) + _ITERATE * sum(isinstance(a.update, Admm) for a in self.assignments.values())
        state["iterates"] = {name: asdict(iterate) for name, iterate in self.iterates.items()}
        text = json.dumps(state, sort_keys=True).encode()
        state["crc32"] = zlib.crc32(text)
        text = json.dumps(state, sort_keys=True).encode()
        padded = bytearray(text.ljust(-(-room // _BLOCK) * _BLOCK))
        return torch.frombuffer(padded, dtype=torch.uint8).clone()

    def load(self, tensor: object) -> None:
        """Take over a saved course, schedule included.

        Raises:
            RegimeError: it was saved by another regime or for other layers; nothing is changed.
        """
        with _readable():
            state = _decode(tensor)
            self._check(state)
            assignments = {name: _assigned(self.assignments[name], layer) for name, layer in state["layers"].items()}
            iterates = {name: Iterate(**iterate) for name, iterate in state["iterates"].items()}
            own, reached = set(state["own"]), dict(state["reached"])
        self.assignments |= assignments
        for name in (*_PLAIN_FIELDS, *_LATER_FIELDS):
            setattr(self, name, state[name])
        self.own, self.reached, self.iterates = own, reached, iterates

    def _check(self, state: Mapping[str, Any]) -> None:
        if state["regime"] != self.regime:
            raise RegimeError(
                f"state_dict: it was saved under regime '{state['regime']}', this model has '{self.regime}'. "
                f"Build the model with sparsify(..., regime='{state['regime']}')."
            )
        strange = set(state["layers"]) ^ set(self.assignments)
        if strange:
            raise RegimeError(
                f"state_dict at {min(strange)}: the layers it was saved for are not this model's. "
                "Load it into a model of the same architecture."
            )
        for name, layer in state["layers"].items():
            saved, mine = layer["rule"], _fingerprint(self.assignments[name])
            if mine.fits(layer):
                continue
            same = "the same, with another function" if saved == mine.rule else mine.rule
            raise RegimeError(
                f"state_dict at {name}: it was saved with the rule {saved or 'dense'}, this model has "
                f"{same or 'dense'}. Build the model with the settings it was saved with."
            )


_PLAIN_FIELDS = ("regime", "sparsity", "epoch", "step", "frozen", "reached")
_LATER_FIELDS = {"updates": 0, "late": False, "waiting": False}  # and what an older state_dict stands for


def _layer_state(assignment: Assignment) -> dict[str, Any]:
    schedule = asdict(cast(Any, assignment.schedule))
    return asdict(_fingerprint(assignment)) | {"sparsity": assignment.sparsity, "schedule": schedule}


def _fingerprint(assignment: Assignment) -> Fingerprint:
    if assignment.rule is None:
        return Fingerprint.of((), "")
    parts: list[object] = [assignment.rule]
    if assignment.master is not None:
        parts.append(assignment.master)
    if assignment.update is not monotone:
        parts.append(assignment.update)
    told = [repr(parts[0]), type(assignment.schedule).__name__, *map(repr, parts[1:])]
    return Fingerprint.of(tuple(parts), " ".join(told))


def _assigned(mine: Assignment, saved: Mapping[str, Any]) -> Assignment:
    """Return an assignment with the numbers that were saved for it."""
    # asdict'ed schedules are frozen records of numbers; `_check` has seen that they are of the same kind
    schedule = replace(cast(Any, mine.schedule), **saved["schedule"])
    return replace(mine, sparsity=float(saved["sparsity"]), schedule=schedule)


def _decode(tensor: object) -> dict[str, Any]:
    state = json.loads(bytes(cast(Tensor, tensor).to("cpu", torch.uint8).tolist()))
    checksum = state.pop("crc32", None)  # older ones have none
    if checksum is not None and checksum != zlib.crc32(json.dumps(state, sort_keys=True).encode()):
        raise ValueError("its checksum is wrong")
    later = {name: state.get(name, missing) for name, missing in _LATER_FIELDS.items()}
    plain = {name: state[name] for name in _PLAIN_FIELDS}
    sets = {"own": state["own"], "layers": dict(state["layers"]), "iterates": dict(state.get("iterates", {}))}
    for name in ("epoch", "step", "updates"):
        operator.index((plain | later)[name])
    return sets | plain | later


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Tell of a saved schedule that cannot be read in one sentence."""
    try:
        yield
    except RegimeError:
        raise
    except Exception as error:  # whatever a spoilt record leads to
        raise RegimeError(
            "state_dict: the saved schedule in '_extra_state' cannot be read. "
            "Load the file that state_dict() of a sparse model gave, or leave that key out."
        ) from error
