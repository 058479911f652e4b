"""Calls of `torch.autograd.Function` as targets of graph nodes."""

from __future__ import annotations

from typing import Any

import torch


class FunctionCall:
    """`Function.apply` of one `torch.autograd.Function`, as a target that graphs can name and files can hold."""

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        self.function = function
        self.__name__ = f"{function.__name__}_apply"
        self.__module__ = function.__module__

    def __call__(self, *args: Any) -> Any:
        """Apply the function."""
        return self.function.apply(*args)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FunctionCall) and other.function is self.function

    def __hash__(self) -> int:
        return hash(self.function)
