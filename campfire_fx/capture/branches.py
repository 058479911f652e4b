"""Where Python would have gone, had a question been answered the other way."""

from __future__ import annotations

import dis
import functools
from types import CodeType, FrameType

from campfire_fx.base.location import is_library_file

# What may stand between the instruction that asks and the one that jumps.
_BETWEEN = frozenset({"TO_BOOL", "COMPARE_OP", "CONTAINS_OP", "NOT_TAKEN", "CACHE", "EXTENDED_ARG"})
_TRACE = "trace_forward"  # of tracer.py, outside of which nothing is traced
_ENDS = ("RETURN", "YIELD", "FOR_ITER", "SEND")


def other_way_raises(frame: FrameType, answer: bool) -> bool:
    """Return whether the other answer to what `frame` asks surely leads to an error, as in an `assert`.

    Then the model itself refuses the inputs that would give it. False where it cannot be told.
    """
    instructions, places = _instructions(frame.f_code)
    at = places.get(frame.f_lasti)
    if at is None or _may_be_caught(frame):
        return False
    while instructions[at].opname in _BETWEEN and at + 1 < len(instructions):
        at += 1
    jump = instructions[at]
    if not jump.opname.endswith(("JUMP_IF_TRUE", "JUMP_IF_FALSE", "JUMP_FORWARD_IF_TRUE", "JUMP_FORWARD_IF_FALSE")):
        return False
    jumps = jump.opname.endswith("TRUE") == answer
    other = at + 1 if jumps else places.get(jump.argval, len(instructions))
    for instruction in instructions[other:]:
        if instruction.opname == "RAISE_VARARGS":
            return True
        if "JUMP" in instruction.opname or instruction.opname.startswith(_ENDS):
            return False
    return False


def _may_be_caught(frame: FrameType | None) -> bool:
    """Return whether code of the user's that is running has a `try` or a `with`."""
    while frame is not None:
        code = frame.f_code
        if not is_library_file(code.co_filename):
            if getattr(code, "co_exceptiontable", b""):  # from Python 3.11 on
                return True
            if any(i.opname in ("SETUP_FINALLY", "SETUP_WITH") for i in _instructions(code)[0]):
                return True
        elif code.co_name == _TRACE:
            return False
        frame = frame.f_back
    return False


@functools.lru_cache(maxsize=1024)
def _instructions(code: CodeType) -> tuple[list[dis.Instruction], dict[int, int]]:
    instructions = list(dis.get_instructions(code))
    return instructions, {instruction.offset: place for place, instruction in enumerate(instructions)}
