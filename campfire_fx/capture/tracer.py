"""One run of a model's Python code on proxies that know their example values."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from campfire_fx.analysis.rules.movement import hides_history
from campfire_fx.base.errors import CaptureError
from campfire_fx.base.location import line_of, summary
from campfire_fx.base.patches import Patches
from campfire_fx.capture import interception, tidy
from campfire_fx.capture.arguments import placeholders
from campfire_fx.capture.guards import guards_of
from campfire_fx.capture.modules import ModuleAccess
from campfire_fx.capture.proxy import ExampleProxy
from campfire_fx.capture.session import Session
from campfire_fx.capture.survey import Survey


class FailedInside(CaptureError):
    """The code of one submodule, called as a module, cannot be captured; `path` says which."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


def trace_forward(
    survey: Survey, args: tuple[Any, ...], kwargs: dict[str, Any], denied: frozenset[str] = frozenset()
) -> Session:
    """Trace the forward of the model surveyed on these inputs, in the mode that it is in.

    Raises CaptureError with the line where it cannot be done; FailedInside where that is inside a submodule.
    """
    session = Session(survey, denied, ExampleProxy)
    with Patches() as patches:
        ModuleAccess(session).install(patches)
        interception.install(patches, session)
        try:
            call_args, call_kwargs = placeholders(session, args, kwargs)
            with torch.enable_grad():
                result = session.root.forward(*call_args, **call_kwargs)
            session.create_node("output", "output", (session.create_arg(result),), {})
            _refuse_old_data(session)
        except Exception as error:
            explained = _explained(session, error)
            if explained is error:
                raise
            raise explained from error
        finally:
            session.questions.close()
    session.guards = guards_of(session.questions, session.evaluator)
    tidy.tidy(session.graph, survey, {leaf for guard in session.guards for leaf in guard.needs})
    return session


def _refuse_old_data(session: Session) -> None:
    """Refuse reads of data that has been replaced: the graph has written over it."""
    place = {node: number for number, node in enumerate(session.graph.nodes)} if session.replaced else {}
    for copied in session.replaced:
        held = copied.args[0]
        assert isinstance(held, fx.Node)
        for alias in held.users:
            late = any(place[user] > place[copied] for user in alias.users)
            if hides_history(alias) and place[alias] < place[copied] and late:
                raise FailedInside(
                    f"Assignment in {type(session.root).__name__}.forward: it replaces the data of {held.target} and "
                    "goes on with the data from before. Compute a new tensor from it instead.",
                    str(held.target).rpartition(".")[0],
                )


def _explained(session: Session, error: Exception) -> CaptureError:
    """Return the error to raise: with a line, and with the submodule where it is inside of one."""
    explained = error if isinstance(error, CaptureError) else None
    if explained is None:
        explained = CaptureError(
            f"Python code at {line_of(error) or 'unknown line'} cannot be captured: {type(error).__name__}: "
            f"{summary(error)}. Write it with torch operations, or trace the parts of the model."
        )
    if session.failed is None or session.failed[0] is not error:
        return explained
    return FailedInside(str(explained), session.failed[1])
