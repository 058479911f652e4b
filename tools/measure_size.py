"""Count the code of the library, by room: lines without blanks, comments and docstrings.

    tools/size                 one table, and whether the budgets of pyproject.toml hold
    tools/size --files 20      the longest files too

A line counts if a token of code lies on it. Budgets are in [tool.size] of pyproject.toml, and nowhere else.
"""

from __future__ import annotations

import argparse
import ast
import io
import sys
import tokenize
from pathlib import Path

from rich.console import Console
from rich.table import Table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
CORE = ("analysis", "base", "capture", "layers", "passes", "shrink", "sparsity", "training")
_SILENT = frozenset(
    (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
)


def code_lines(source: str) -> int:
    """Return how many lines of a file hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _SILENT:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - _docstring_lines(ast.parse(source)))


def _docstring_lines(tree: ast.Module) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        for statement in getattr(node, "body", ()) if not isinstance(node, (ast.Lambda, ast.IfExp)) else ():
            # A string that stands alone is a docstring, or says what the attribute above it is.
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                lines.update(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
    return lines


def files() -> dict[Path, int]:
    """Return the lines of code of every file of the library."""
    found = sorted({*ROOT.glob("campfire_fx/**/*.py"), *ROOT.glob("passes/**/*.py")})
    return {
        path.relative_to(ROOT): code_lines(path.read_text()) for path in found if "campfire_fx/passes" not in str(path)
    }


def rooms(counted: dict[Path, int]) -> dict[str, int]:
    """Return the lines of code of each room; modules outside of rooms count as "top"."""
    found: dict[str, int] = {}
    for path, lines in counted.items():
        place = path.parts[0] if path.parts[0] == "passes" else path.parts[1] if len(path.parts) > 2 else "top"
        found[place] = found.get(place, 0) + lines
    return found


def totals(by_room: dict[str, int]) -> dict[str, int]:
    """Return the lines of the core and of everything else."""
    core = sum(lines for room, lines in by_room.items() if room in CORE)
    return {"core": core, "rest": sum(by_room.values()) - core}


def budgets() -> dict[str, int]:
    """Return the most lines that the core and the rest may have."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["size"]


def main() -> int:
    """Print the table; returns 1 if a budget is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=0, metavar="N", help="show the N longest files")
    wanted = parser.parse_args().files
    counted = files()
    by_room = rooms(counted)
    table = Table("room", "part", "lines of code", title="Lines without blanks, comments and docstrings")
    table.columns[2].justify = "right"
    for room, lines in sorted(by_room.items(), key=lambda pair: -pair[1]):
        table.add_row(room, "core" if room in CORE else "rest", f"{lines:,}")
    for path, lines in sorted(counted.items(), key=lambda pair: -pair[1])[:wanted]:
        table.add_row(str(path), "file", f"{lines:,}")
    console, red = Console(), False
    console.print(table)
    for part, lines in totals(by_room).items():
        most = budgets()[part]
        red |= lines > most
        console.print(f"{part}: {lines:,} of {most:,}{'' if lines <= most else ', too many'}")
    return int(red)


if __name__ == "__main__":
    sys.exit(main())
