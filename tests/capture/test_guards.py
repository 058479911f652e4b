"""What the example decided is asserted whenever the graph runs; what no input can change is not."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx import shrink, sparsify
from campfire_fx.capture import is_refusal, trace
from tests.capture.checks import call, same

X = torch.randn(2, 3, 12, 12)
REMEDY = "is right for such inputs alone. Trace the model that it came from with an example like this input."


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 4, 1)


def guards_of(module: nn.Module) -> list[str]:
    return [fact.guard for fact in trace(module.eval(), X).islands[0].specialisations if fact.guard]


def refusal(module: nn.Module, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        module(*args, **kwargs)
    assert is_refusal(caught.value)
    return str(caught.value)


def answer(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Exception | None]:
    try:
        return module(*args, **kwargs), None
    except AssertionError as error:
        return None, error


class Branch(Net):
    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu()
        if y.shape[2] > 5:
            y = y * 2
        return self.b(y)


def test_a_branch_holds_for_inputs_that_take_it() -> None:
    model = Branch().eval()
    module = trace(model, X).module
    assert same(module(torch.ones(1, 3, 40, 32)), model(torch.ones(1, 3, 40, 32)))
    line = inspect.getsourcelines(Branch.forward)[1] + 2
    assert refusal(module, torch.ones(2, 3, 8, 12)) == (
        f"Input at test_guards.py:{line}: this model was traced with (((x.shape[2] - 1) // 2) + 1) > 5, and {REMEDY}"
    )


def test_guards_come_before_the_computation() -> None:
    nodes = [node.target for node in trace(Branch().eval(), X).module.graph.nodes]
    assert nodes.index(torch._assert) < nodes.index("a")


class ForEach(Net):
    def forward(self, images: list[Tensor]) -> Tensor:
        return torch.stack([self.b(self.a(image[None]))[0] for image in images])


class Frames(Net):
    def forward(self, film: Tensor) -> Tensor:
        hidden: Any = 0
        for t in range(film.shape[1]):
            hidden = torch.tanh(self.b(self.a(film[:, t])) + hidden)
        return hidden


class Alone(Net):
    """The sample of one takes another way, whichever the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        z = self.a(x).mean((2, 3))
        return self.norm(z) if z.size(0) > 1 else z


class Mapping(Net):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        y = self.b(self.a(batch["image"]))
        return y * batch["weight"] if "weight" in batch else y


WEIGHTED = {"image": X, "weight": X[:, :1, :6, :6]}
FILM = torch.randn(1, 3, 3, 8, 8)


@pytest.mark.parametrize(
    ("model", "example", "good", "bad", "said"),
    [
        (ForEach, ([X[0]],), ([X[1]],), ([X[0], X[1]],), "len(images) == 1"),
        (Frames, FILM, torch.randn(2, 3, 3, 9, 8), torch.cat([FILM, FILM], 1), "film.shape[1] == 3"),
        (Alone, X, torch.randn(5, 3, 9, 9), X[:1], "x.shape[0] > 1"),
        (Alone, X[:1], X[1:], X, "x.shape[0] <= 1"),
        (Mapping, ({"image": X},), ({"image": X[:1]},), (WEIGHTED,), "list(batch) == ('image',)"),
    ],
)
def test_what_decides_is_guarded(model: Callable[[], nn.Module], example: Any, good: Any, bad: Any, said: str) -> None:
    given = model().eval()
    for module in (trace(given, example).module, shrink(given, example)):
        assert torch.allclose(call(module, good), call(given, good), atol=1e-5)
        assert f"was traced with {said}, and {REMEDY}" in refusal(module, *(bad if isinstance(bad, tuple) else (bad,)))


def test_training_has_guards_of_its_own() -> None:
    sparse = sparsify(Alone().train(), "filter", example_inputs=X[:1], prune_stem=True)
    assert "x.shape[0] <= 1" in refusal(sparse.train(), X)

    class OnlyInTraining(Alone):
        def forward(self, x: Tensor) -> Tensor:
            z = self.a(x).mean((2, 3))
            return self.norm(z) if self.training and z.size(0) > 1 else z

    module = trace(OnlyInTraining().train(), X[:1]).module
    assert module.eval()(X).shape == (2, 8)
    assert "x.shape[0] <= 1" in refusal(module.train(), X)


class Options(Net):
    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *more: Tensor,
        scale: float = 2.0,
        mode: str = "plain",
        flag: bool = False,
    ) -> Any:
        y = self.b(self.a(x)) * scale
        for other in more:
            y = y + other.mean()
        y = y if mask is None else y * mask
        y = y.abs() if mode == "abs" else y
        return (y, x) if flag else y


MASK = torch.rand(2, 1, 6, 6)


@pytest.mark.parametrize("example", [X, (X, MASK), (X, MASK, X), {"x": X, "flag": True}, {"x": X, "scale": 3.0}])
def test_the_graph_is_called_as_the_model_is(example: Any) -> None:
    model = Options().eval()
    for module in (trace(model, example).module, shrink(model, example)):
        given = {k: (p.kind, p.default) for k, p in inspect.signature(model.forward).parameters.items()}
        taken = {k: (p.kind, p.default) for k, p in inspect.signature(module.forward).parameters.items()}
        assert taken == given
        answered = 0
        for args, kwargs in (
            ((X,), {}), ((X, MASK), {}), ((X, MASK, X), {}), ((X,), {"flag": True}), ((X,), {"mode": "abs"}),
            ((X,), {"scale": 3.0}), ((X,), {"mask": MASK}), ((X,), {"scale": 4.0}),
        ):  # fmt: skip
            got, error = answer(module, *args, **kwargs)
            assert error is None or is_refusal(error)
            if error is None:
                expected = model(*args, **kwargs)
                assert type(got) is type(expected)
                torch.testing.assert_close(got, expected)
                answered += 1
        assert answered > 0


def test_the_message_names_the_argument() -> None:
    module = trace(Options().eval(), X).module
    line = inspect.getsourcelines(Options.forward)[1]
    text = f"Argument flag at test_guards.py:{line}: this model was traced with flag=False, and {REMEDY}"
    assert refusal(module, X, flag=True) == text
    assert "Argument mask" in refusal(module, X, MASK) and "with mask=None," in refusal(module, X, MASK)
    assert "mask is not None" in refusal(trace(Options().eval(), (X, MASK)).module, X)
    assert "with scale=2.0," in refusal(module, X, scale=3)


class Needless(Net):
    """Nothing here depends on the size of the input, though sizes are asked for."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2] % 4 == 0, f"got {x.shape[2]}"
        if x.shape[3] % 4 != 0:
            raise ValueError(f"got {tuple(x.shape)}")
        y = self.a(x)
        if y.shape[1] == 8 and y.dim() == 4 and y.device == x.device:
            y = y + len(y.chunk(2, 1))
        for part in y.chunk(4, dim=1):
            y = y + part.mean()
        z = torch.cat([y, F.relu(y)], 1).permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)[:, :, None].mean(2)
        return self.b(y) if z.shape[1] == 16 else y


def test_what_no_input_can_change_needs_no_guard() -> None:
    assert guards_of(Needless()) == []
    facts = trace(Needless().eval(), X).islands[0].specialisations
    assert any("x.shape[2] % 4" in fact.expression for fact in facts)


class Asserts(Net):
    """What the model itself refuses is caught here, and done otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        try:
            assert x.shape[2] == 12
        except AssertionError:
            x = x[:, :, :12]
        return self.a(x)


def test_an_error_that_may_be_caught_decides() -> None:
    assert guards_of(Asserts()) == ["x.shape[2] == 12"]


class Prints(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.seen = f"{x.shape[2]}"
        self.table = {x.shape[3]: 1}
        return self.a(x) * self.table[int(x.shape[3])]


class Chooses(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) * {"12": 2}.get(f"{x.shape[2]}", 3)


def test_text_and_keys_made_of_sizes_decide_nothing_until_they_do() -> None:
    assert guards_of(Prints()) == []
    assert guards_of(Chooses()) == ["x.shape[2] == 12"]


class Follows(Net):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(x.shape[2]):
            x = x + 1
        return self.a(x) if x.shape[2] > 6 and x.shape[2] * x.shape[3] > 20 and x.size(2) > 6 else x


def test_guards_that_follow_are_left_out() -> None:
    assert guards_of(Follows()) == ["x.shape[2] == 12", "(x.shape[2] * x.shape[3]) > 20"]


class Measures(Net):
    """Asks for the size of what shrinking makes smaller, and of what it takes away."""

    def forward(self, x: Tensor) -> Tensor:
        gone = F.max_pool2d(self.c(x), 3, 1)
        y = self.a(x).flip(3)
        y = y * 2 if y.flatten().shape[0] > 100 else y
        return self.b(y) if gone.shape[2] > 3 else y

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        with torch.no_grad():
            for part in (self.a.weight[:4], self.a.bias[:4], self.c.weight, self.c.bias):
                part.zero_()


def test_a_guard_asks_of_the_slim_model_what_was_asked_of_the_one_given() -> None:
    model = Measures().eval()
    slim = shrink(model, X)
    for size in (12, 16, 24):
        x = torch.randn(1, 3, size, size)
        assert torch.allclose(slim(x), model(x), atol=1e-5)
    assert "shape[2] > 3" in refusal(slim, torch.randn(2, 3, 8, 12))


def test_a_model_in_parts_is_guarded_part_by_part() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = Branch()

        def forward(self, x: Tensor) -> Tensor:
            return self.part(x) if float(x.sum()) < 1e9 else x

    captured = trace(Whole().eval(), X)
    assert not captured.whole
    assert "x.shape[2]" in refusal(captured.module, torch.ones(2, 3, 8, 12))


def test_networks_may_be_deeper_than_the_stack() -> None:
    class Deep(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            x = super().forward(x)
            return x * 2 if x.shape[2] > 3 else x

    assert guards_of(Deep(*(nn.Conv2d(3, 3, 1) for _ in range(500)))) == ["x.shape[2] > 3"]
