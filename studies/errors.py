"""The one error of this package, and the sentence for a name that does not exist."""

import difflib
from collections.abc import Iterable


class StudyError(ValueError):
    """Something the user can put right: one line with the field, the constraint and the value."""


def unknown_name(field: str, name: str, known: Iterable[str]) -> StudyError:
    """Builds the error for a name that is none of the known ones.

    Args:
        field: what was named, as the user writes it ("sampler").
        name: what the user wrote.
        known: the names that exist.

    Returns:
        The error, to be raised; it lists the known names and the one nearest in spelling.
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(name.lower(), names, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return StudyError(f"{field} must be one of {', '.join(names)}, got {name!r}{hint}")
