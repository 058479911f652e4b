"""Breaking lines never changes what they say."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campfire_fx.export.wrapping import WIDTH, wrapped

names = st.sampled_from(
    ["x", "self.layer1", "nn.Conv2d(3, 4, kernel_size=(3, 1))", '"a, (b"', "value_with_a_long_name"]
)
terms = st.recursive(
    names,
    lambda inner: st.one_of(  # each form of bracket that code is written with
        st.builds(lambda a, b: f"f({a}, key={b})", inner, inner),
        st.builds(lambda a, b: f"({a} + {b})", inner, inner),
        st.builds(lambda a, b: f"({a}) * g({b})", inner, inner),
        st.builds(lambda a: f"y[{a}]", inner),
        st.builds(lambda a: f"({a},)", inner),
        st.builds(lambda a, b: f"[{a}, {b}]", inner, inner),
        st.builds(lambda a: f'h(**{{"0": {a}}})', inner),
    ),
    max_leaves=20,
)


@given(terms)
def test_wrapped_code_is_the_same_code(term: str) -> None:
    line = f"result = {term}"
    assert ast.dump(ast.parse("\n".join(wrapped(line)))) == ast.dump(ast.parse(line))


@given(terms)
def test_lines_are_short_enough_unless_one_value_is_longer(term: str) -> None:
    for line in wrapped(f"result = {term}"):
        assert len(line) <= WIDTH or not any(bracket in line[:-1] for bracket in "([{") or line.rstrip()[-1] in "([{"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("short(1)", ["short(1)"]),
        ("f(" + "a" * 60 + ", " + "b" * 40 + ")", ["f(", "    " + "a" * 60 + ",", "    " + "b" * 40 + ",", ")"]),
        ("f(" + "a" * 60 + ", " + "b" * 34 + ")" + " + c", ["f(", "    " + "a" * 60 + ", " + "b" * 34, ") + c"]),
    ],
)
def test_items_go_on_one_line_where_they_fit_else_on_one_each(line: str, expected: list[str]) -> None:
    assert wrapped(line) == expected


def test_a_long_string_becomes_shorter_ones_side_by_side() -> None:
    text = "word " * 40 + "end"
    lines = wrapped(f'torch._assert(y, "{text}")', 8)
    assert max(map(len, lines)) <= 100
    assert (
        eval("f(" + "\n".join(lines).strip().removeprefix("torch._assert("), {"f": lambda y, said: said, "y": 1})
        == text
    )
