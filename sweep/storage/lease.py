"""Who runs a study: leases in the database that expire with their holders.

One orchestrator holds a study alone, unless others join it. Each then has a lease of its own, and
each writes only its own trials.
"""

import os
import socket
import time
import uuid
from typing import Any

from optuna.study import Study

from sweep.errors import SweepError

KEY = "lease"
DURATION_S = 60.0
RENEW_S = 15.0


class Lease:
    """The right to write a study.

    Args:
        study: the study to hold.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._renewed = 0.0
        self._key = KEY
        self.token = uuid.uuid4().hex[:8]

    def take(self, *, join: bool = False) -> None:
        """Takes the lease, or takes it over from a holder that is gone.

        Args:
            join: whether to work beside those who hold one.

        Raises:
            SweepError: another live orchestrator holds it, and `join` was not asked for.
        """
        found = self._found()
        others = [held for held in found.values() if not _gone(held)]
        if others and not join:
            raise self._refusal(others[0])
        places = (KEY, *(f"{KEY}-{number}" for number in range(2, len(found) + 2)))
        self._key = next(key for key in places if key not in found or _gone(found[key]))
        self.renew()

    def renew(self) -> bool:
        """Extends the lease when a quarter of it is over; cheap to call often.

        Returns:
            Whether it was time to.

        Raises:
            SweepError: this process slept past its lease, and another one took its trials over.
        """
        now = time.time()
        if now - self._renewed < RENEW_S:
            return False
        if self._renewed:
            held = self._found().get(self._key)
            if held is None or held.get("token") != self.token:
                raise self._refusal(held or {})
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "token": self.token}
        self._study.set_user_attr(self._key, {**mine, "expires": now + DURATION_S})
        self._renewed = now
        return True

    def release(self) -> None:
        """Gives the lease back, where it is still this process's."""
        if self._found().get(self._key, {}).get("token") == self.token:
            self._study.set_user_attr(self._key, {})

    def others(self) -> set[str]:
        """The tokens of the other live orchestrators."""
        live = [held for held in self._found().values() if not _gone(held)]
        return {str(held.get("token")) for held in live} - {self.token}

    def clear_dead(self) -> None:
        """Takes the leases of those that are gone: one that only slept stops when it wakes."""
        for key, held in self._found().items():
            if key != self._key and _gone(held):
                self._study.set_user_attr(key, {})

    def _found(self) -> dict[str, dict[str, Any]]:
        attributes = self._study.user_attrs
        return {key: held for key, held in attributes.items() if key.startswith(KEY) and held}

    def _refusal(self, held: dict[str, Any]) -> SweepError:
        name = self._study.study_name
        if not held:
            return SweepError(
                f"study '{name}': this process was silent for {DURATION_S:.0f} s, and another one "
                "took its trials over: the same command goes on, when that one has ended"
            )
        return SweepError(
            f"study '{name}' is being run by process {held['pid']} on {held['host']}: stop that "
            "one first, work beside it with --join, or choose another --study"
        )


def _gone(held: dict[str, Any]) -> bool:
    if float(held["expires"]) < time.time():
        return True
    pid = int(held["pid"])
    if held["host"] != socket.gethostname():
        return False
    return pid == os.getpid() or not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
