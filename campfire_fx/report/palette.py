"""The colours of all pictures and pages: one colour, one meaning, told apart with every kind of colour vision.

Networks have the four strongest of Okabe and Ito's colours ("Color universal design", 2008); what else is compared has
colours after Paul Tol's muted scheme ("Colour schemes", 2021). Markers and kinds of lines say the same again.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Colour(NamedTuple):
    """A colour on light pages, and what stands for it on dark ones."""

    light: str
    dark: str


NETWORKS = {
    "dense": Colour("#0072B2", "#52A8E0"),
    "sparse": Colour("#D55E00", "#F0863C"),
    "slim": Colour("#009E73", "#2FC59A"),
    "slim from scratch": Colour("#CC79A7", "#DF97BE"),
}
"""The networks of a run."""
WEIGHTS = {
    "kept": Colour("#64748B", "#64748B"),  # pictures of masks are images, whose colours stay
    "zero": Colour("#B8C4D2", "#B8C4D2"),
    "dead": Colour("#E3B505", "#E3B505"),
}
"""What weights are: kept, zero in a kernel that lives, or in a dead kernel."""
OTHERS = {
    "other-1": Colour("#332288", "#9C92F2"),
    "other-2": Colour("#AA4466", "#E07F9C"),
    "other-3": Colour("#117733", "#5FBF80"),
    "other-4": Colour("#7F7F1F", "#C9C95C"),
    "other-5": Colour("#2B9FC4", "#7ACCE8"),
    "other-6": Colour("#7B4B2A", "#C99468"),
    "other-7": Colour("#111111", "#F2F2F2"),
}
"""Whatever else is compared: regimes, networks of a user's own."""
PAGE = {
    "ink": Colour("#222222", "#E6E6E6"),
    "soft": Colour("#555555", "#ABB0B6"),
    "edge": Colour("#8C8C8C", "#7C838B"),
    "line": Colour("#D9D9D9", "#3B4148"),
    "paper": Colour("#FFFFFF", "#15181C"),
    "link": Colour("#0063A0", "#7ABDF2"),
}
"""Text, notes, frames, thin lines, the background, and links."""
_ALL = {name.replace(" ", "-"): colour for part in (PAGE, NETWORKS, WEIGHTS, OTHERS) for name, colour in part.items()}


def css_variables() -> str:
    """Return a variable for each colour as CSS, and its other value where a reader wants dark pages."""
    return _themed(":root", "color-scheme: light dark; ")


def notebook_variables(part: str) -> str:
    """Return the same for a part of a notebook, by its selector: in the theme of the notebook, where it says that."""
    themes = (
        f'[data-jp-theme-light="{light}"] {part}, [data-theme="{name}"] {part}, .vscode-{name} {part}'
        f" {{ {_variables(name)} }}"
        for name, light in (("light", "true"), ("dark", "false"))
    )
    return "\n".join([_themed(part), *themes])


def _themed(part: str, more: str = "") -> str:
    dark = f"{part} {{ {_variables('dark')} }}"
    return f"{part} {{ {more}{_variables('light')} }}\n@media (prefers-color-scheme: dark) {{ {dark} }}"


def _variables(kind: str) -> str:
    return " ".join(f"--{name}: {getattr(colour, kind)};" for name, colour in _ALL.items())


def with_variables(svg: str) -> str:
    """Return a picture whose colours are those of `css_variables`."""
    names = {colour.light.lower(): name for name, colour in _ALL.items()}
    return re.sub(r"#[0-9a-f]{6}\b", lambda found: f"var(--{names[found[0]]})" if found[0] in names else found[0], svg)
