"""How the documentation becomes a site: `tools/docs` builds it, and takes every warning for an error."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from campfire_fx.base.version import __version__  # noqa: E402

project = "campfire_fx"
author = "The campfire_fx authors"
project_copyright = author
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.mermaid",
]
exclude_patterns = ["comparison/**"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # links to headings, as GitHub makes them
myst_fence_as_directive = ["mermaid"]
nb_execution_mode = "off"  # a test runs the notebooks; the site shows what they hold

default_role = "code"  # docstrings write `name`, as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings give shapes and units, and signatures the types
autodoc_class_signature = "separated"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "pydata_sphinx_theme"
html_title = f"campfire_fx {version}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_sidebars = {"**": ["globaltoc"]}  # every page, by section
html_theme_options = {
    "navbar_center": [],
    "navigation_depth": 1,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}


def setup(app: Any) -> None:
    """Let links to the files of the repository's root, which GitHub shows, lead to their pages."""

    def redirect(_app: Any, _name: str, source: list[str]) -> None:
        source[0] = re.sub(r"\]\((?:\.\./)+(CONTRIBUTING|CHANGELOG|SECURITY)\.md", _to_page, source[0])

    app.connect("source-read", redirect)


def _to_page(link: re.Match[str]) -> str:
    return f"](/{link[1].lower()}.md"
