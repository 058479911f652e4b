"""Each habit of Python is captured whole, runs to the bit like the model, in both modes and at other sizes."""

from __future__ import annotations

import pytest
import torch

from tests.capture import habits
from tests.capture.checks import captured_whole

X, OTHER = torch.randn(2, 3, 10, 10), torch.randn(3, 3, 12, 14)
FREE = (
    "BranchOnSize Unpack SamePadding IntOfSize SetItems Fold Outputs Recurrent Copies Factories RandomOperations "
    "OwnDropout StoresState CountsCalls InPlace SizesInPlace Views Checkpointed OwnFunctions CachedHelpers Strings "
    "Arithmetic Dimensions Scripting NoGradient PlainTensors Shared Hooked Wrapped ZooStyle Parametrised PoolOfSize "
    "ZooBlocks Autocast Decorated Legacy Unregistered Wrapper AskedInJit "
    "AsksForTypes WithMetaclass FunctionsInTables FailsAndGoesOn NumpyArrays "
    "RepeatsLists ChangesLists HooksItsPartsAtFirst CachedMethods NumpySizes"
).split()


@pytest.mark.parametrize("name", FREE)
def test_habit_at_any_size(name: str) -> None:
    model = getattr(habits, name)()
    captured_whole(model, X, OTHER)


def test_a_loop_over_a_size_is_unrolled_as_on_the_example() -> None:
    captured = captured_whole(habits.Loop(), X, torch.randn(1, 3, 11, 11))
    facts = [fact.expression for fact in captured.islands[0].specialisations]
    assert "bool((conv(...).shape[2] > 4))" in facts and "bool(((conv(...).shape[2] // 2) > 4))" in facts


def test_the_graph_takes_the_arguments_that_forward_takes() -> None:
    x, y = X, torch.randn(4)
    captured_whole(habits.Arguments(), x)
    captured_whole(habits.Arguments(), (x, y, y))
    for inputs in ({"x": x, "mask": torch.rand(1, 4, 1, 1)}, {"x": x, "scale": 3.0, "flip": True, "extra": y}):
        captured = captured_whole(habits.Arguments(), inputs)
        names = [node.target for node in captured.module.graph.nodes if node.op == "placeholder"]
        assert names == ["x", "*more", "scale", "mask", *(["**rest"] if "extra" in inputs else [])]
    captured_whole(habits.Late(), {"x": x, "z": y, "y": y}, {"z": y, "x": OTHER, "y": y})
    captured = captured_whole(habits.Flags(), (x, True, "b", 3), (OTHER, True, "b", 5))
    facts = {(fact.expression, fact.value) for fact in captured.islands[0].specialisations}
    assert {("return_features", True), ("mode", "b")} <= facts


def test_lists_and_dicts_of_tensors_keep_their_structure() -> None:
    inputs = ([X, OTHER[:, :, :10, :10]], {"boxes": torch.rand(3), "extra": torch.rand(1), "n": 2})
    captured = captured_whole(habits.Containers(), inputs)
    facts = {fact.expression: fact.value for fact in captured.islands[0].specialisations}
    assert facts["len(images)"] == 2 and facts["list(targets)"] == ("boxes", "extra", "n")
