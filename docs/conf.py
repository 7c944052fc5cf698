"""Settings of Sphinx: `make docs` builds the pages, and treats warnings as errors."""

import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / ".pkg")]

from docstrings import as_rst  # noqa: E402 - found by the path above
from generate import generate  # noqa: E402

from basinet import __version__  # noqa: E402

project = "Basinet"
author = "the authors of Basinet"
project_copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["generated/studies.md"]  # a part of another page
suppress_warnings = ["ref.python"]  # attributes of several classes have the same name

html_theme = "furo"
html_title = f"Basinet {release}"
html_copy_source = html_show_sourcelink = False

html_math_renderer = "mathml"

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3

default_role = "py:obj"
autodoc_default_options = {"exclude-members": "set"}  # matplotlib gives every artist one, with its own documentation
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
toc_object_entries = False


def _formula(translator: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers show without scripts or external fonts."""
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    translator.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Write the generated pages before Sphinx looks for pages, and convert docstrings.

    Args:
        app: The Sphinx application.
    """
    app.add_html_math_renderer("mathml", inline_renderers=(_formula, None), block_renderers=(_formula, None))
    app.connect("builder-inited", lambda app: generate(HERE / "generated"))
    # Before napoleon reads them.
    app.connect("autodoc-process-docstring", lambda app, what, name, obj, options, lines: as_rst(lines), priority=100)
