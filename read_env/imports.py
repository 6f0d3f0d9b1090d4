"""Import of code of the user's own, which is named ``module:attribute``."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from read_env.errors import ReadEnvError, unknown


def import_attribute(name: str, kind: str = "agent", right: str = "module:Class") -> Any:
    """Import ``module:attribute``, also from the working directory.

    Args:
        name: module and attribute.
        kind: of what is imported, for errors.
        right: form of the name, for errors.

    Raises:
        ReadEnvError: there is no such module or attribute, or the module raises.

    >>> import_attribute("collections:OrderedDict").__name__
    'OrderedDict'
    """
    module_name, _, attribute = name.partition(":")
    search(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ReadEnvError(f"{kind} {name!r}: can't import module {module_name!r}: {error}") from error
    except (TypeError, ValueError) as error:  # "", ".relative"
        raise ReadEnvError(f"{kind} {name!r}: {module_name!r} is no module name; right would be {right}") from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        public = [key for key in vars(module) if not key.startswith("_")]
        what = right.partition(":")[2].lower() or "attribute"
        raise ReadEnvError(
            f"{kind} {name!r}: {unknown(f'{what} in module {module_name}', attribute, public)}"
        ) from error


def code_file(name: str) -> Path | None:
    """File of the module of ``module:attribute``; None if there is none.

    >>> code_file("json:loads").name
    '__init__.py'
    """
    search(os.getcwd())
    try:
        spec = find_spec(name.partition(":")[0])
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin and spec.has_location else None


def search(folder: str | Path) -> None:
    """Append a folder to ``sys.path``; at the end it hides no other module.

    Console scripts don't have the working directory there, and modules beside a task card are not in it.
    """
    text = os.path.abspath(folder)
    if text not in sys.path and not ("" in sys.path and text == os.getcwd()):
        sys.path.append(text)
