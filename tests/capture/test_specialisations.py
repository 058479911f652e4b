"""What was asked of sizes is recorded with line, expression and answer; what stays symbolic is not."""

from __future__ import annotations

import inspect
import operator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from campfire_fx.analysis.captured import Specialisation
from campfire_fx.capture import trace
from tests.capture import habits
from tests.capture.test_habits import X


def facts_of(model: nn.Module, example: Any = X) -> tuple[Specialisation, ...]:
    return trace(model.eval(), example).islands[0].specialisations


def line_with(model: type[nn.Module], text: str) -> str:
    lines, first = inspect.getsourcelines(model.forward)
    return f"habits.py:{first + next(i for i, line in enumerate(lines) if text in line)}"


def test_a_branch_names_its_line_and_answer() -> None:
    where = line_with(habits.BranchOnSize, "if x.shape[2] > 4")
    assert facts_of(habits.BranchOnSize())[:2] == (
        Specialisation(where, "bool((norm(...).shape[2] > 4))", True),
        Specialisation(where, "bool((norm(...).size(3) > 4))", True),
    )


@pytest.mark.parametrize(
    "name", ["Unpack", "IntOfSize", "Factories", "PoolOfSize", "SetItems", "OwnDropout", "Shared", "Views", "Copies"]
)
def test_arithmetic_on_sizes_asks_nothing_about_images(name: str) -> None:
    """`int()`, `range()` over channels and indexing apart, sizes stay symbolic."""
    asked = [fact.expression for fact in facts_of(getattr(habits, name)())]
    assert not any("shape[2]" in text or "shape[3]" in text or "shape[0]" in text for text in asked), asked


def test_sizes_given_to_torch_functions_are_not_recorded() -> None:
    class Model(habits.Base):
        def forward(self, x: Tensor) -> Tensor:
            b, c, h, w = x.shape
            x = torch.reshape(x, (b, c, h * w))
            return torch.reshape(x, (b, c, h, w)) + torch.zeros(h, w)

    assert facts_of(Model()) == ()


def test_sizes_that_python_uses_are_recorded_even_next_to_those() -> None:
    class Model(habits.Base):
        def forward(self, x: Tensor) -> Tensor:
            b = x.shape[0]
            for _ in range(b):
                x = torch.reshape(x, (b, 3, -1))
            return x

    assert [(fact.expression, fact.value) for fact in facts_of(Model())] == [("int(x.shape[0])", 2)]


def test_each_question_is_recorded_once() -> None:
    class Model(habits.Base):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = x + 1 if x.shape[1] == 3 else x
            return x

    assert len({fact.where for fact in facts_of(Model())}) == 1
    assert len(facts_of(Model())) == 3  # x, x + 1, x + 1 + 1


def test_questions_of_both_modes_are_kept() -> None:
    class Model(habits.Base):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                return x * 2 if x.shape[0] > 1 else x
            return x * 3 if x.shape[2] > 1 else x

    assert [fact.expression for fact in facts_of(Model())] == ["bool((x.shape[2] > 1))", "bool((x.shape[0] > 1))"]


def test_of_the_questions_only_guards_are_left_in_the_graph() -> None:
    graph = trace(habits.BranchOnSize().eval(), X).module.graph
    left = [node.name for node in graph.nodes if node.target not in ("size", operator.gt)]
    assert left == ["x", "_assert", "_assert_1", "conv", "norm", "max_pool2d", "output"]


def test_buffers_answer_with_their_value() -> None:
    class Model(habits.Base):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("ready", torch.tensor(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) if self.ready.item() > 0 else x

    assert facts_of(Model()) == (Specialisation(facts_of(Model())[0].where, "bool((ready.item() > 0))", True),)


def test_iterating_over_a_batch_is_recorded() -> None:
    class Model(habits.Base):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.conv(image[None]) for image in x])

    assert [(fact.expression, fact.value) for fact in facts_of(Model())] == [("len(x)", 2)]


def test_a_call_that_failed_is_noted() -> None:
    facts = {(fact.expression, fact.value) for fact in facts_of(habits.FailsAndGoesOn(), X)}
    assert ("cat([layers.2(...), x], 1) fails", True) in facts
