"""The site's settings: `sphinx-build -W docs site` builds it, without a network."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.writers.html5 import HTML5Translator

import advaug

project = "advaug"
exclude_patterns = ["measured"]  # what the pages quote, as it came
author = "The advaug authors"
version = release = advaug.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
language = "en"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

napoleon_use_ivar = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
# What is ours must be found; what other packages document is out of reach without a network.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!advaug\.).*")]
nitpick_ignore = [  # private types, which signatures name
    ("py:class", "advaug.augment.corruptions.scene.Scene"),
    ("py:class", "advaug.augment.masks.masking.Picture"),
    ("py:class", "advaug.baselines._defence.DefenceOptions"),
]

html_theme = "furo"
highlight_language = "none"
pygments_style = "default"
pygments_dark_style = "github-dark"
html_title = "advaug"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False

EQUATION = re.compile(r"^\$\$(.+?)\$\$$", re.MULTILINE | re.DOTALL)
UNDERSCORE = re.compile(r"""(?<=\w)_(?=["'\s,.)])(?=[^`]*(`[^`]*`[^`]*)*$)""")  # outside code
CODE = re.compile(r"`([^`]+)`(\w?)")


def as_restructured_text(
    app: Sphinx, kind: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Translate a docstring, which is written in the Markdown of the pages.

    The text of "Returns" gets an empty type in front: napoleon would take what stands before the
    first colon for one.
    """
    text = "\n".join(lines)
    text = UNDERSCORE.sub(r"\_", text)
    text = CODE.sub(lambda code: f"``{code[1]}``" + (code[2] and rf"\ {code[2]}"), text)
    text = EQUATION.sub(lambda found: f"\n.. math:: {' '.join(found[1].split())}\n", text)
    text = re.sub(r"^(Returns:\n +)(?=\S)", r"\1: ", text, flags=re.MULTILINE)
    lines[:] = text.split("\n")


def is_field_of_a_named_tuple(
    app: Sphinx, kind: str, name: str, thing: object, skip: bool, options: object
) -> bool | None:
    """Leave out what the class's own docstring says under "Attributes"."""
    return True if type(thing).__name__ == "_tuplegetter" else None


def inline_equation(translator: HTML5Translator, node: nodes.math) -> None:
    """An equation within a line, as MathML: browsers draw it without a script."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def displayed_equation(translator: HTML5Translator, node: nodes.math_block) -> None:
    """An equation on a line of its own."""
    translator.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the equations, and what is done to docstrings before napoleon reads them."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"  # as the docstrings call them; Sphinx says "Variables"
    app.add_html_math_renderer("mathml", (inline_equation, None), (displayed_equation, None))
    app.connect("autodoc-process-docstring", as_restructured_text, priority=100)
    app.connect("autodoc-skip-member", is_field_of_a_named_tuple)
