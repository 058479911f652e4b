"""One trace of a model in one mode, of which nothing stays behind."""

from __future__ import annotations

from typing import Any

from campfire_fx.base.draws import undrawn
from campfire_fx.base.errors import CaptureError
from campfire_fx.base.untouched import training_flags, untouched
from campfire_fx.capture.session import Session
from campfire_fx.capture.survey import Survey
from campfire_fx.capture.tracer import trace_forward


def trace_once(
    survey: Survey,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    training: bool | None,
    denied: frozenset[str] = frozenset(),
) -> Session:
    """Return the session that has traced the model surveyed; `training`: the flags to set, None: as they stand.

    Lines in `denied` are told that sizes which are equal are not: see `generality`.

    Raises CaptureError with the line of the code that cannot be captured.
    """

    def attempt() -> Session:
        with untouched(survey.python), training_flags(survey.root, training):
            return trace_forward(survey, args, kwargs, denied)

    session, drew_at = undrawn(attempt, [scope for scope, _ in survey.reach.namespaces.values()])
    if drew_at is not None:
        owner = type(survey.root).__name__
        raise CaptureError(
            f"Random numbers at {drew_at}: {owner}.forward draws them outside of torch operations, and a graph would "
            "repeat the first draw for ever. Draw them with torch.rand and the like, or trace its parts."
        )
    if session.counters:  # once more, to see whether they are more than counted
        with untouched(survey.python), training_flags(survey.root, training):
            session.counters.put_in_place(survey.paths)
            trace_forward(survey, args, kwargs, denied)
    return session
