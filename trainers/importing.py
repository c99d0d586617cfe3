"""Finds an object by its import path: `package.module:factory`."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainers.errors import TrainerError


def is_import_path(name: str) -> bool:
    """Tell "package.module:factory" from the name of something built in."""
    return ":" in name


def import_object(
    path: str, *, what: str, fits: Callable[[Any], bool] = callable
) -> Callable[..., Any]:
    """Import an object. A module that is not installed is looked for in the working directory.

    Args:
        path: "package.module:factory"; the factory may be dotted ("Class.method").
        what: what the object is for, to begin the error message with ("model").
        fits: tells whether it may be called.

    Returns:
        The object.

    Raises:
        TrainerError: in one line, where the path is malformed, the module is missing or fails as
            it is imported, or its attribute is missing or cannot be called.
    """
    module_name, _, attribute = path.partition(":")
    if not (_is_dotted_name(module_name) and _is_dotted_name(attribute)):
        raise TrainerError(f'{what} must read "package.module:factory", got "{path}"')
    # A finder remembers a folder's listing: a file written a moment ago would be missed.
    importlib.invalidate_caches()
    directory = str(Path.cwd())
    if not _is_there(module_name.partition(".")[0]) and not {"", directory} & set(sys.path):
        sys.path.append(directory)  # last: a file there may have the name of an installed module
    return load_object(path, f'{what} "{path}"', fits=fits)


def load_object(
    path: str, subject: str, *, fits: Callable[[Any], bool] = callable
) -> Callable[..., Any]:
    """Load an object of the project or of an installed package.

    Args:
        path: "package.module:factory".
        subject: what begins the error message.
        fits: as of `import_object`.

    Raises:
        TrainerError: as of `import_object`.
    """
    module_name, _, attribute = path.partition(":")
    found: Any = _import_module(module_name, subject)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise TrainerError(
                f'{subject}: module {module_name} has no attribute "{attribute}"'
            ) from None
    if not fits(found):
        raise TrainerError(f"{subject} must be callable, it is of type {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # a module that runs as a script has none
        return True


def _is_dotted_name(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _import_module(name: str, subject: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise TrainerError(f"{subject}: there is no module {error.name}") from None
        reason = " ".join(str(error).split())
        raise TrainerError(
            f"{subject}: importing {name} failed with {type(error).__name__}: {reason}"
        ) from error
