"""Keeps a database's password out of what is shown, logged and exported."""

import re

# Not a URL parser's work: text that is no valid URL is shown as well, in the message that says so.
_PASSWORD = re.compile(r"(://[^:/@\s]*):\S*@|([?&]password=)[^&\s]*")


def without_password(text: str) -> str:
    """A storage, or a command line that names one, as it may be shown."""
    return _PASSWORD.sub(lambda found: f"{found[1]}:***@" if found[1] else f"{found[2]}***", text)
