"""YAML by version 1.2's core schema, as editors and other tools read it, and no code in it.

PyYAML reads version 1.1, in which 1e-4 is text, 010 is eight, 1:30 is ninety and `on` is true.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml

from trainers.refusals import shown

_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_KINDS = {"int": _INT, "float": _FLOAT, "bool": _BOOL}
_FIRST = "-+.0123456789tTfF"  # characters that any of them begins with
_PREFIX = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML's own attribute
        first: [kind for kind in kinds if kind[0] in (f"{_PREFIX}null", f"{_PREFIX}merge")]
        for first, kinds in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuses an alias: a few lines of aliases of aliases come to gigabytes."""
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "aliases are not read: write the value out", mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuses a key that stands twice: PyYAML takes the last one and says nothing."""
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {shown(key.value)} stands there twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """010 is ten, 0o10 and 0x10 are not."""
        text = str(self.construct_scalar(node))
        return int(text, 0 if text.startswith(("0o", "0x")) else 10)


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """A value that stands twice is written twice."""
        return True


_Loader.add_constructor(f"{_PREFIX}int", _Loader.construct_integer)
for _name, _pattern in _KINDS.items():
    _whole = re.compile(f"(?:{_pattern.pattern})\\Z")
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"{_PREFIX}{_name}", _whole, list(_FIRST))


def load(text: str) -> Any:
    """Reads YAML.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: it is none, or has a key twice or an alias.
    """
    return yaml.load(text, _Loader)  # a safe loader


def dump(fields: dict[str, Any]) -> str:
    """Writes YAML that versions 1.1 and 1.2 read alike, in the order of the fields."""
    return yaml.dump(fields, Dumper=_Dumper, sort_keys=False)
