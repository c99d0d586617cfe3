"""One orchestrator a study: a lease in the database that expires with its holder."""

import os
import socket
import time

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

    def take(self) -> None:
        """Takes the lease, or takes it over from a holder that is gone.

        Raises:
            SweepError: another live orchestrator holds it.
        """
        self._refuse_another()
        self.renew()

    def renew(self) -> bool:
        """Extends the lease when a quarter of it is over; cheap to call often.

        Returns:
            Whether it was time to.

        Raises:
            SweepError: this process slept past its lease, and another one runs the study now.
        """
        now = time.time()
        if now - self._renewed < RENEW_S:
            return False
        if self._renewed:
            self._refuse_another()
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "expires": now + DURATION_S}
        self._study.set_user_attr(KEY, mine)
        self._renewed = now
        return True

    def release(self) -> None:
        """Gives the lease back, where it is still this process's."""
        held = self._study.user_attrs.get(KEY) or {}
        if held and (held["host"], held["pid"]) == (socket.gethostname(), os.getpid()):
            self._study.set_user_attr(KEY, {})

    def _refuse_another(self) -> None:
        held = self._study.user_attrs.get(KEY) or {}
        if held and not _gone(held):
            raise SweepError(
                f"study '{self._study.study_name}' is being run by process {held['pid']} on "
                f"{held['host']}: stop that one first, or choose another --study"
            )


def _gone(held: dict[str, object]) -> bool:
    if float(str(held["expires"])) < time.time():
        return True
    pid = int(str(held["pid"]))
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
