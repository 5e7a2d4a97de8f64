"""How the documentation is built."""

from importlib import metadata

project = "taskflow"
author = "the taskflow authors"
copyright = "2026, the taskflow authors"  # noqa: A001
release = metadata.version("asynctaskflow")
version = release

extensions = ["myst_parser", "sphinxcontrib.mermaid"]
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"taskflow {release}"
html_show_sphinx = False
