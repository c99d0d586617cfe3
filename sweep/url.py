"""A database's address, which shows its password to nobody."""

import re
from urllib.parse import unquote

# Not a URL parser's work: text that is no valid URL is shown as well, in the message that says so.
# Up to the last @, for a password may hold one that should have been escaped.
_PASSWORD = re.compile(r"(://[^:/@?]*):(.*)@", re.DOTALL)
_OPTION = re.compile(r"([?&][^=&]*(?:passw|pwd|secret|token)[^=&]*)=([^&]*)", re.IGNORECASE)
_STOPS = re.compile(r"[@/:?#&\s]+")
_LEAST = 3  # characters of a part of a password that is looked for


class StorageUrl:
    """A storage as the user names it: a URL or a path. As text its password is hidden.

    Args:
        text: with the password, if it has one; or another one of these.
    """

    __slots__ = ("_text",)

    def __init__(self, text: "StorageUrl | str") -> None:
        self._text: str = text._text if isinstance(text, StorageUrl) else text

    def __str__(self) -> str:
        return masked(self._text)

    def __repr__(self) -> str:
        return repr(str(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorageUrl) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def revealed(self) -> str:
        """The whole, for what opens the database."""
        return self._text

    def hidden_in(self, text: str) -> str:
        """A driver's message without the password, or a part of it that was taken for a host."""
        secrets = [
            part
            for found in (*_PASSWORD.finditer(self._text), *_OPTION.finditer(self._text))
            for part in (found[2], unquote(found[2]), *_STOPS.split(found[2]))
        ]
        for secret in sorted({each for each in secrets if len(each) >= _LEAST}, key=len)[::-1]:
            text = text.replace(secret, "***")
        return text

    @property
    def unescaped(self) -> bool:
        """Whether an @ within the password would be taken for its end."""
        _, _, rest = self._text.partition("://")
        return re.split(r"[/?]", rest)[0].count("@") > 1


def masked(word: str) -> str:
    """A storage, or one word of a command line that names one, as it may be shown."""
    return _OPTION.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", word))
