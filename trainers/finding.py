"""Finds a thing by its name: built in, of an installed package, or by its import path.

Models, executors, samplers, views and commands are all found so. An installed package adds one by
an entry point of the kind's group; a file of the user's own is named "package.module:thing".
"""

import contextlib
import difflib
import functools
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.errors import TrainerError
from trainers.importing import import_object, is_import_path, load_object

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def files_of(package: str, folders: Iterable[str], thing: str) -> dict[str, str]:
    """Import paths by the names of a package's files, but for those with an underscore in front.

    Args:
        package: its dotted name.
        folders: its `__path__`.
        thing: what each file offers ("build").
    """
    names = [module.name for module in pkgutil.iter_modules(folders)]
    return {name: f"{package}.{name}:{thing}" for name in names if not name.startswith("_")}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of thing that is chosen by its name.

    Attributes:
        what: what one is, in messages ("model").
        group: of the entry points that add to it ("sweep.models").
        built_in: import paths by name; no entry point replaces them.
        contract: a class or protocol: what a thing from outside makes must have its public names.
            None where whoever calls it checks that.
    """

    what: str
    group: str
    built_in: Mapping[str, str]
    contract: type | None = None

    def names(self) -> list[str]:
        """All names: built in, and of the installed packages."""
        return sorted({*self.built_in, *(point.name for point in self._entry_points())})

    def find(self, name: str) -> Callable[..., Any]:
        """Loads one; only what is not built in makes it look through the installed packages.

        Args:
            name: one of `names()`, or an import path.

        Raises:
            TrainerError: in one line, where there is none of the name, or it cannot be loaded.
        """
        if name in self.built_in:  # its own faults are no user's to mend: they keep their traceback
            module, _, thing = self.built_in[name].partition(":")
            found: Callable[..., Any] = getattr(importlib.import_module(module), thing)
            return found
        if is_import_path(name):
            return self._kept(name, import_object(name, what=self.what))
        for point in self._entry_points():
            if point.name == name:
                package = point.dist.name if point.dist else "an installed package"
                subject = f'{self.what} "{name}" of {package}'
                return self._kept(name, load_object(point.value.partition("[")[0].strip(), subject))
        names = self.names()
        near = difflib.get_close_matches(name, names, n=1)
        hint = f' (did you mean "{near[0]}"?)' if near else ""
        raise TrainerError(
            f'there is no {self.what} "{name}"{hint}; there are {", ".join(names)}, '
            f'or give your own as "package.module:factory"'
        )

    def check(self, name: str) -> None:
        """Refuses what cannot be found; what is built in is not loaded for it.

        Raises:
            TrainerError: as of `find`.
        """
        if name not in self.built_in:
            self.find(name)

    def _entry_points(self) -> Iterable["EntryPoint"]:
        if not _some_package_has(self.group):
            return ()
        from importlib.metadata import entry_points

        return entry_points(group=self.group)

    def _kept(self, name: str, factory: Callable[..., Any]) -> Callable[..., Any]:
        """A factory from outside that keeps the contract, or says in one line that it does not."""
        if self.contract is None:
            return factory
        needed = [each for each in vars(self.contract) if not each.startswith("_")]

        @functools.wraps(factory)
        def make(*arguments: Any, **options: Any) -> Any:
            try:
                made = factory(*arguments, **options)
            except Exception as error:
                reason = " ".join(str(error).split())
                raise TrainerError(
                    f'{self.what} "{name}" failed with {type(error).__name__}: {reason}'
                ) from error
            if missing := [each for each in needed if not hasattr(made, each)]:
                raise TrainerError(
                    f'{self.what} "{name}" must make what has {", ".join(needed)}; '
                    f"the {type(made).__name__} that it made has no {missing[0]}"
                )
            return made

        return make


def _some_package_has(group: str) -> bool:
    """Looks into the files themselves: to load `importlib.metadata` takes longer than all of it."""
    heading = f"[{group}]".encode()
    for folder in map(Path, sys.path):
        with contextlib.suppress(OSError):  # a folder that is not there, a file that is no text
            for file in folder.glob("*-info/entry_points.txt"):
                if heading in file.read_bytes():
                    return True
    return False
