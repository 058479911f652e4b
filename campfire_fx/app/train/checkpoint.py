"""Checkpoints of the training command: weights, masks and schedule, and what is needed to build the model again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.app.train.ends import renew
from campfire_fx.app.train.foreign import find_state
from campfire_fx.app.train.models import build_model
from campfire_fx.base.disk.archive import Unreadable, reason, save_archive
from campfire_fx.base.disk.foreign import Inert, held_state, load_foreign
from campfire_fx.base.errors import CampfireError, TrainError
from campfire_fx.export.safetensors import read_safetensors
from campfire_fx.training.smaller import made_again
from campfire_fx.training.sparsify import sparsify

SUFFIX = ".ckpt"
_FORMAT = 1


def _is_options(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


_FACTS: Mapping[str, Callable[[Any], bool]] = {
    "model": lambda value: isinstance(value, str),
    "options": _is_options,
    "shape": lambda value: (
        isinstance(value, (tuple, list)) and len(value) > 0 and all(type(size) is int and size > 0 for size in value)
    ),
    "sparse": lambda value: value is None or _is_options(value),
    "state": _is_options,
}
"""What a checkpoint holds, and how it is told from something else."""
_NOTES = ("images", "start", "smaller")
"""What it may hold beside, as a dict: checkpoints of earlier versions have none."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A model at rest.

    Attributes:
        model: its name, as `build_model` takes it.
        options: arguments of `build_model`.
        shape: of an input, (N, C, H, W).
        sparse: arguments of `sparsify`, all of them plain data; None for a dense model.
        state: its `state_dict`.
        images: how images were given to it: mean, std, resize, interpolation, augment; None: not noted.
        start: the trained weights that it started from: source and sha256, where they were not new; and "replaced", the
            names of layers that were replaced by others in what the factory builds. None: neither.
        smaller: where it was made smaller in its training, its `state_dict` before each time, as "snapshots".
    """

    model: str
    options: dict[str, Any]
    shape: tuple[int, ...]
    sparse: dict[str, Any] | None
    state: dict[str, Tensor] = field(repr=False)
    images: dict[str, Any] | None = None
    start: dict[str, Any] | None = None
    smaller: dict[str, Any] | None = field(default=None, repr=False)


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint whole or not at all; a file that was there is replaced in one step."""
    content = {item.name: getattr(checkpoint, item.name) for item in fields(checkpoint)} | {"campfire_fx": _FORMAT}
    save_archive(content, path, TrainError)


def read(path: Path) -> Checkpoint:
    """Read what `save` wrote; nothing in the file is run.

    Raises:
        TrainError: there is no such file, or it is no checkpoint of the training command.
    """
    return checkpoint_of(read_tensors(path), path)


def is_checkpoint(content: Mapping[str, Any]) -> bool:
    """Say whether a file's content is what `save` wrote, and not something else by the same suffix."""
    return "campfire_fx" in content


def checkpoint_of(content: Mapping[str, Any], path: Path) -> Checkpoint:
    """Return the checkpoint that a file's content is: see `read`."""
    if not is_checkpoint(content):
        raise TrainError(
            f"Checkpoint at {path}: it holds a bare state_dict, not a model of `train`. Name the model with --model."
        )
    wrong = next((name for name, fits in _FACTS.items() if name not in content or not fits(content[name])), None)
    notes: dict[str, Any] = {name: content.get(name) for name in _NOTES}
    wrong = wrong or next((name for name, note in notes.items() if note is not None and not _is_options(note)), None)
    if wrong is not None or content["campfire_fx"] != _FORMAT:
        raise TrainError(
            f"Checkpoint at {path}: {wrong or 'the format number'} in it is not what `train` saves."
            f" Save it again, with this version of campfire_fx."
        )
    facts = {name: content[name] for name in ("model", "options", "sparse", "state")}
    return Checkpoint(shape=tuple(content["shape"]), **facts, **notes)


def read_tensors(path: Path) -> dict[str, Any]:
    """Read a file of tensors and plain values, .safetensors or `torch.save`'s; what else is in it is not run.

    Raises:
        TrainError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise TrainError(f"Checkpoint at {path}: there is no such file. Check the path.")
    try:
        content = read_safetensors(path) if path.suffix == ".safetensors" else load_foreign(path)
    except Unreadable as error:
        raise TrainError(f"Checkpoint at {path}: {error}. Save the state_dict again.") from error
    if isinstance(content, Inert):
        content = dict(held_state(content)) or content
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise TrainError(f"Checkpoint at {path}: it holds a {type(content).__name__}. Save the model's state_dict.")
    return content


def restore(checkpoint: Checkpoint, model: str | None = None) -> nn.Module:
    """Build the model of a checkpoint and load its state: a SparseModel where it was one.

    Args:
        checkpoint: from `read`.
        model: the name to build, instead of the checkpoint's.

    Raises:
        TrainError: the checkpoint names a factory of the user's, whose code is run only if given as `model`; or the
            state does not fit the model.
    """
    name = trusted_model(checkpoint, model)
    try:
        network = build_model(name, **checkpoint.options)
        for layer in (checkpoint.start or {}).get("replaced", ()):
            renew(network, layer, checkpoint.options["classes"])
        if checkpoint.sparse is not None:
            network = sparsify(network, example_inputs=torch.zeros(checkpoint.shape), **checkpoint.sparse)
            network = made_again(network, (checkpoint.smaller or {}).get("snapshots", []))
    except CampfireError:
        raise
    except Exception as error:  # what a wrong value leads to, anywhere
        raise TrainError(
            f"Checkpoint of {name}: its options do not build the model ({reason(error)}). Train it again."
        ) from error
    load_own(network, checkpoint.state, name)
    return network.eval()


def trusted_model(checkpoint: Checkpoint, model: str | None = None) -> str:
    """Return the name of a checkpoint's model, or the one given instead.

    Raises:
        TrainError: it is a factory of the user's, whose code is run only if given as `model`.
    """
    name = model or checkpoint.model
    if model is None and ":" in name:
        raise TrainError(f"Checkpoint: its model comes from {name}. If you trust that code, give --model {name}.")
    return name


def load_state(network: nn.Module, content: Mapping[str, Any], name: str) -> None:
    """Load what a file holds, of any training script: see `find_state`.

    Raises:
        TrainError: it is not of this model.
    """
    load_own(network, find_state(content, network, name), name)


def load_own(network: nn.Module, state: dict[str, Any], name: str) -> None:
    """Load a state_dict of just this network.

    Raises:
        TrainError: it is not of this model.
    """
    try:
        network.load_state_dict(state)
    except CampfireError:
        raise
    except Exception as error:  # beside torch's own: what values that are no tensors lead to
        told = str(error).strip().splitlines()[1:2] if isinstance(error, RuntimeError) else []
        why = told[0].strip().rstrip(".") if told else reason(error)
        raise TrainError(f"State of {name}: it does not fit the model ({why}). Give the model it is of.") from error
