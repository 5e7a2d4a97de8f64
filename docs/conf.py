"""How the documentation is built."""

from importlib import metadata

project = "taskflow"
author = "the taskflow authors"
copyright = "2026, the taskflow authors"  # noqa: A001
release = metadata.version("asynctaskflow")
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.mermaid",
]
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"taskflow {release}"
html_show_sphinx = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# Names of types in signatures: those of third parties and of our private modules have
# no page to be linked to. References that a page makes itself are MyST's, and fail.
nitpick_ignore_regex = [(r"py:.*", r".*")]
default_role = "literal"
