"""Configuration of the documentation; ``make docs`` builds it into ``build/docs``."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))
# Notebooks and autodoc run with one torch thread, as the package does.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import read_env  # noqa: E402

project = "read-env"
author = "the read-env authors"
project_copyright = "the read-env authors, Apache-2.0"
release = version = read_env.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "myst_nb",
    "site_extension",
]
exclude_patterns = ["_ext", "_static", "README.md"]
# Pages made by scripts may begin with headings of a lower level, and two classes of the package are named Encoder.
suppress_warnings = ["myst.header", "ref.python"]
nitpicky = True
# Names of other libraries, of the standard library and of type variables: there is no inventory of them in a bare clone.
nitpick_ignore_regex = [("py:.*", r"(?!read_env\.).*"), ("py:.*", r"read_env\..*\._\w+")]
# Type variables, and functions that validate a field, which autodoc shows in the field's type.
nitpick_ignore_regex += [("py:.*", r"read_env\.(.*\.(Model|Item)|records\.plain|remote_settings\.\w+)")]

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE.parent / "build" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True, "ignore-module-all": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = "code"
maximum_signature_line_length = 100
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "read-env"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}
html_copy_source = False
html_show_sourcelink = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
