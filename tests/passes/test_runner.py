"""The runner of passes: it checks what they say, tells their author, and writes graphs down where that is asked for."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx import CampfireError, trace
from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.facts import Facts
from campfire_fx.passes.runner import DUMP, Pass, Result, apply, graph_pass, nothing_decided, removal_decided, run
from tests.nets.case import conv

X = torch.randn(1, 3, 6, 6)
FOLDER = Path(__file__).parents[2] / "passes"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 4), conv(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x)))


@pytest.fixture
def captured() -> Captured:
    return trace(Net().eval(), X)


def edit_nothing(facts: Facts) -> None:
    pass


def edit_a_node(facts: Facts) -> None:
    (node,) = facts.captured.islands[0].module.graph.find_nodes(op="call_function", target=F.relu)
    node.target = F.gelu


def edit_a_weight(facts: Facts) -> None:
    with torch.no_grad():
        facts.captured.module.get_parameter("a.weight").zero_()


def edit_an_attribute(facts: Facts) -> None:
    facts.captured.module.get_submodule("a").padding = (0, 0)


def edit_by_a_new_tensor(facts: Facts) -> None:
    a = facts.captured.module.get_submodule("a")
    a.weight = nn.Parameter(a.weight.detach().clone())


EDITS = {
    edit_a_node: "graph of the model",
    edit_a_weight: "module a",
    edit_an_attribute: "module a",
    edit_by_a_new_tensor: "module a",
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_that_is_not_told_is_found(edit, captured) -> None:
    @graph_pass()
    def shy(facts: Facts) -> Result:
        edit(facts)
        return Result(changed=False)

    with pytest.raises(CampfireError) as error:
        apply(captured, shy)
    assert str(error.value) == (
        f"Pass shy: it says changed=False, but {EDITS[edit]} has changed. "
        "For its author: return a Result that says what was done."
    )


def test_a_pass_that_only_says_it_did_something_is_found(captured) -> None:
    @graph_pass()
    def boaster(facts: Facts) -> Result:
        facts.captured.module.get_submodule("a").padding = (1, 1)  # as it was
        return Result(changed=True)

    with pytest.raises(CampfireError, match="Pass boaster: it says changed=True, but nothing has changed"):
        apply(captured, boaster)


def test_what_a_pass_requires_and_ensures_is_checked(captured) -> None:
    call = lambda facts: Result(changed=False)  # noqa: E731
    early = Pass("early", call, requires=(removal_decided,))
    with pytest.raises(CampfireError) as error:
        apply(captured, early)
    assert str(error.value) == (
        "Pass early: it requires removal_decided (It is known what goes.), which does not hold. "
        "For its author: call it where that holds."
    )
    with pytest.raises(CampfireError, match=r"Pass late: it ensures removal_decided .* make the pass see to that"):
        apply(captured, Pass("late", call, requires=(nothing_decided,), ensures=(removal_decided,)))


def test_facts_are_found_anew_after_a_change_alone(captured) -> None:
    seen: list[Facts] = []

    @graph_pass()
    def look(facts: Facts) -> Result:
        seen.append(facts)
        return Result(changed=False, done=("looked",))

    @graph_pass()
    def edit(facts: Facts) -> Result:
        edit_a_node(facts)
        return Result(changed=True)

    @graph_pass()
    def edit_back(facts: Facts) -> Result:
        edit_a_weight(facts)
        return Result(changed=True)

    outcome = run(Facts(captured), [look, look, edit, look])
    assert seen[0] is seen[1] and seen[2] is outcome.facts is not seen[0]
    assert outcome.done == ("looked",) * 3 and outcome.changed
    outcome.facts.decide()
    assert (
        run(outcome.facts, [Pass("edit", lambda f: (edit_a_weight(f), Result(changed=True))[1])]).facts is outcome.facts
    )


def test_options_go_to_the_function(captured) -> None:
    @graph_pass(doing="looking")
    def look(facts: Facts, *, at: str) -> Result:
        return Result(changed=False, done=(at,))

    told: list[str] = []
    assert run(Facts(captured), [look.given(at="a"), look.given(at="b")], told.append).done == ("a", "b")
    assert told == ["looking"] * 2


def test_graphs_are_dumped_where_that_is_asked_for(captured, tmp_path, monkeypatch) -> None:
    @graph_pass()
    def soften(facts: Facts) -> Result:
        edit_a_node(facts)
        return Result(changed=True)

    monkeypatch.setenv(DUMP, str(tmp_path / "dump"))
    apply(captured, soften)
    with pytest.raises(ZeroDivisionError):
        apply(captured, Pass("fails", lambda facts: Result(changed=1 / 0)))
    before, after = (tmp_path / "dump" / "run_001" / f"01_soften_{when}.txt" for when in ("before", "after"))
    assert "torch.nn.functional.relu" in before.read_text() and "gelu" not in before.read_text()
    assert "gelu" in after.read_text() and "a.weight: (4, 3, 3, 3)" in after.read_text()
    assert [path.name for path in (tmp_path / "dump" / "run_002").iterdir()] == ["01_fails_before.txt"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_a_file_holds_one_pass_of_its_name(path: Path) -> None:
    if path.stem == "runner":
        return
    module = importlib.import_module(f"campfire_fx.passes.{path.stem}")
    own = [name for name, value in vars(module).items() if isinstance(value, Pass)]
    assert own == [path.stem] and getattr(module, path.stem).call.__doc__
