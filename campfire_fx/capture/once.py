"""One trace of a model in one mode, of which nothing stays behind."""

from __future__ import annotations

from typing import Any

from campfire_fx.base.draws import undrawn
from campfire_fx.base.errors import CaptureError
from campfire_fx.base.untouched import training_flags, untouched
from campfire_fx.capture.session import ExampleTracer
from campfire_fx.capture.survey import Survey


def trace_once(
    survey: Survey,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    training: bool | None,
    denied: frozenset[str] = frozenset(),
) -> ExampleTracer:
    """Return the tracer that has traced the model surveyed; `training`: the flags to set, None: as they stand.

    Lines in `denied` are told that sizes which are equal are not: see `generality`.

    Raises CaptureError with the line of the code that cannot be captured.
    """

    def attempt() -> ExampleTracer:
        with untouched(survey.python), training_flags(survey.root, training):
            tracer = ExampleTracer(survey, denied)
            tracer.run(args, kwargs)
        return tracer

    tracer, drew_at = undrawn(attempt, [scope for scope, _ in survey.reach.namespaces.values()])
    if drew_at is not None:
        owner = type(survey.root).__name__
        raise CaptureError(
            f"Random numbers at {drew_at}: {owner}.forward draws them outside of torch operations, and a graph would "
            "repeat the first draw for ever. Draw them with torch.rand and the like, or trace its parts."
        )
    if tracer.access.counters:  # once more, to see whether they are more than counted
        with untouched(survey.python), training_flags(survey.root, training):
            tracer.access.counters.put_in_place(survey.paths)
            ExampleTracer(survey, denied).run(args, kwargs)
    return tracer
