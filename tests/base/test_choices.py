"""What public functions take and give, as types: words are those that are known, and nothing public returns Any."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import campfire_fx
from campfire_fx.base import choices
from campfire_fx.sparsity.channels.choice import EVEN, GLOBAL
from campfire_fx.sparsity.channels.scores import SCORES
from campfire_fx.sparsity.regimes import _CK_SCOPES, ENTRIES


def words(name: str) -> tuple[str, ...]:
    return typing.get_args(getattr(choices, name))


def test_the_words_are_those_that_are_known() -> None:
    assert words("RegimeName") == tuple(entry.example or name for name, entry in ENTRIES.items())
    assert words("ScoreName") == tuple(SCORES)
    assert words("ChannelScope") == (GLOBAL, EVEN) and words("CkScope") == tuple(_CK_SCOPES)


def callables() -> Iterator[tuple[str, Any]]:
    """Yield every public function, and every public method and property of the public classes, by name."""
    for name in campfire_fx.__all__:
        value = getattr(campfire_fx, name)
        if inspect.isfunction(value):
            yield name, value
        for attribute, member in vars(value).items() if inspect.isclass(value) else ():
            function = member.fget if isinstance(member, property) else member
            if inspect.isfunction(function) and not attribute.startswith("_"):
                yield f"{name}.{attribute}", function


CALLABLES = dict(callables())
SPOKEN = {  # parameters that take a word, and the type that knows it
    ("shrink", "residual"): "Residual",
    ("shrink", "compensate"): "Compensate",
    ("SparseModel.shrink", "residual"): "Residual",
    ("SparseModel.shrink", "compensate"): "Compensate",
    ("SparseModel.reconfigure", "residual"): "Residual",
    ("sparsify", "regime"): "RegimeName | str | Regime",
    ("sparsify", "ck_scope"): "CkScope",
    ("sparsify", "score"): "ScoreName | ChannelScore | None",
    ("sparsify", "scope"): "ChannelScope | None",
    ("sparsify", "dead_norm"): "DeadNorm",
    ("sparsify", "masks_move"): "MasksMove",
}


@pytest.mark.parametrize("name", CALLABLES)
def test_types_say_what_comes_back_and_which_words_are_taken(name: str) -> None:
    signature = inspect.signature(CALLABLES[name])
    assert signature.return_annotation not in (Any, "Any", inspect.Signature.empty, "object"), "it returns Any"
    for parameter in signature.parameters.values():
        told = SPOKEN.get((name, parameter.name))
        assert told is None or parameter.annotation == told
        takes_words = parameter.annotation in ("str", "str | None") and isinstance(parameter.default, str)
        assert not takes_words or parameter.default == "", f"{parameter.name} takes words: give it a type of choices.py"


def test_the_table_of_words_is_of_what_there_is() -> None:
    assert all(parameter in inspect.signature(CALLABLES[name]).parameters for name, parameter in SPOKEN)
