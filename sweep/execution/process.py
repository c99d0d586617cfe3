"""What a process may lack that was started by no shell: open streams, an account, a home."""

import os
import sys


def open_what_is_closed() -> None:
    """Opens the standard streams that were closed: the next file opened would be taken for one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def stand_in_for_an_account() -> None:
    """Gives a user that the system does not know, as in containers, a name and a home.

    The home is the working folder, as the caches of torch and of texts have to be somewhere.
    """
    if not hasattr(os, "getuid"):
        return
    import pwd

    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("USER", str(os.getuid()))
        os.environ.setdefault("HOME", os.getcwd())  # noqa: PTH109
