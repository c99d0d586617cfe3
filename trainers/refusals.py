"""What pydantic found wrong, in a user's words."""

import reprlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

# By pydantic's kinds of error; in braces its own details.
_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not a known key",
    "unexpected_keyword_argument": "is not a known key",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "finite_number": "must be a finite number",
    "literal_error": "must be {expected}",
    "too_long": "must have at most {max_length} values",
    "string_too_short": "must not be empty",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "dataclass_type": "must be a table",
    "model_type": "must be a table",
}
_VALUELESS = ("missing", "extra_forbidden", "unexpected_keyword_argument")
_LONGEST = 80
# A few lines of YAML or a long list may stand for gigabytes: no more is written than is shown.
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 10


def refusal(error: "ValidationError") -> tuple[str, str]:
    """The first thing that a validation found wrong.

    Returns:
        The key, dotted, and what it must be and was; the key is "" where a sentence of our own
        names it.
    """
    first = error.errors()[0]
    kind, value = first["type"], shown(first["input"])
    if kind == "value_error":
        return "", first["msg"].removeprefix("Value error, ")
    key = ".".join(str(part) for part in first["loc"])
    if kind not in _WORDS:
        return key, f"is refused: {first['msg']}, got {value}"
    words = _WORDS[kind].format(**first.get("ctx", {}))
    return key, words if kind in _VALUELESS else f"{words}, got {value}"


def shown(value: object) -> str:
    """A value as it was given, cut off where it is long."""
    text = repr(value[: _LONGEST + 1]) if isinstance(value, str) else _SHORT.repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
