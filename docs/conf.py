"""How Sphinx makes the site of these pages: `make docs`."""

import importlib.metadata

project = "nnx_wrappers"
copyright = "the nnx_wrappers authors"
version = release = importlib.metadata.version("nnx_wrappers")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["requirements.txt"]
myst_heading_anchors = 3

# The reference is read from the installed package. A word in single backticks that is a public
# name is a link to it, any other is code.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88

# Every link must lead somewhere, but for names of other packages and of what a docstring only
# mentions.
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", r".*"),
    ("py:(class|exc|data)", r"(flax|jax|nnx|linen|tp|typing|collections)\..*"),
    ("py:class", r"nnx_wrappers\._functional\.M"),  # a type variable
    ("py:(class|exc)", r"(nnx_wrappers\.checkpoint\..*|Report|CheckpointError|pathlib\.Path)"),
]

html_theme = "furo"
html_title = f"nnx_wrappers {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"footer_icons": []}
