"""Calls of what makes a network: with the options that a user names, and with what is known of the images."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from campfire_fx.base.errors import CampfireError, TrainError
from campfire_fx.base.hints import did_you_mean

FACTS = {
    "classes": ("classes", "num_classes", "n_classes", "nb_classes", "num_labels"),
    "channels": ("channels", "in_chans", "in_channels", "num_channels", "input_channels"),
}
"""What is known of images, and how parameters for it are called: here, in torchvision, timm and elsewhere."""

_UNEXPECTED = "unexpected keyword argument"


def call_factory(
    name: str, factory: Callable[..., Any], asked: Mapping[str, Any], known: Mapping[str, Any]
) -> nn.Module:
    """Call a factory, and return the model that it makes.

    Args:
        name: the model's, for errors.
        factory: any callable.
        asked: arguments that it has to take.
        known: some of FACTS; each is given under the first name that the factory has a parameter of, if it has one.

    Raises:
        TrainError: an argument is not one of the factory's, or it raises, or returns something else than a model.
    """
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError) as error:
        told = f"a {type(factory).__name__} cannot be called"
        raise TrainError(f"MODEL {name}: {told}. Give package.module:factory.") from error
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = [key for key, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    _check_asked(name, asked, names, takes_all=takes_all)
    silent = {fact: value for fact, value in known.items() if not set(FACTS[fact]) & set(asked)}
    model = _called(name, factory, [{**asked, **given} for given in _ways(silent, names, takes_all=takes_all)])
    if not isinstance(model, nn.Module):
        raise TrainError(
            f"MODEL {name}: it returned a {type(model).__name__}, not a torch.nn.Module. Return the model."
        )
    return model


def _check_asked(name: str, asked: Mapping[str, Any], names: list[str], *, takes_all: bool) -> None:
    wrong = next((key for key in asked if key not in names), None)
    if wrong is None or takes_all:
        return
    takes = f"It takes {', '.join(names)}." if names else "It takes no options."
    raise TrainError(f"MODEL {name}: it has no option '{wrong}'.{did_you_mean(wrong, names)} {takes}")


def _ways(known: Mapping[str, Any], names: list[str], *, takes_all: bool) -> Iterator[dict[str, Any]]:
    """Yield the ways to give what is known: by names in the signature; what `**kwargs` may take has to be tried."""
    found = {fact: next((alias for alias in FACTS[fact] if alias in names), None) for fact in known}
    given = {alias: known[fact] for fact, alias in found.items() if alias is not None}
    hidden = [fact for fact, alias in found.items() if alias is None] if takes_all else []
    for styles in zip(*(FACTS[fact][:3] for fact in hidden), strict=True) if hidden else ():
        yield given | {alias: known[fact] for fact, alias in zip(hidden, styles, strict=True)}
    if "classes" in hidden:
        yield from (given | {alias: known["classes"]} for alias in FACTS["classes"][:3])
    yield given


def _called(name: str, factory: Callable[..., Any], ways: list[dict[str, Any]]) -> Any:
    for way in ways:
        try:
            return factory(**way)
        except CampfireError:
            raise
        except Exception as error:  # the user's own code may raise anything
            unexpected = isinstance(error, TypeError) and _UNEXPECTED in str(error)
            if unexpected and way is not ways[-1]:
                continue
            lines = str(error).strip().splitlines()
            told = f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
            advice = "Give options that it takes." if unexpected else "Fix its code, or give it other options."
            raise TrainError(f"MODEL {name}: calling it failed ({told}). {advice}") from error
    raise AssertionError("there is always one way")
