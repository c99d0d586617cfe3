"""Who lives, by counters that each raises as long as it does, and by the reader's own clock."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

BEAT_S = 2.0
"""How often the counter is raised."""
SILENCE_S = 30.0
"""A counter that did not move for so long is a dead one's."""
SAY_AFTER_S = 5.0
"""Who is silent for so long is named to those who wait for it: a living one beats before."""


class Beating(Protocol):
    """One whose counter is watched."""

    @property
    def token(self) -> str:
        """Which one."""
        ...

    @property
    def beat(self) -> int:
        """Its counter."""
        ...


class Watch:
    """What this process saw of others' counters, by its own clock.

    Args:
        clock: seconds; for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked = clock()
        self._moved: set[str] = set()
        self._beats: dict[str, int] = {}
        self._silent_s: dict[str, float] = {}
        self._one_at_a_time = threading.Lock()

    def look(self, found: Iterable[Beating]) -> None:
        """Notes which counters have moved.

        Time in which this process did not look, as it was stopped or the database away, tells
        nothing of the others: they may have been so too.
        """
        with self._one_at_a_time:
            now = self._clock()
            passed = min(now - self._looked, 2 * BEAT_S)
            self._looked = now
            for held in found:
                before = self._beats.get(held.token)
                if before == held.beat:
                    self._silent_s[held.token] += passed
                    continue
                self._beats[held.token], self._silent_s[held.token] = held.beat, 0.0
                if before is not None:
                    self._moved.add(held.token)

    def alive(self, held: Beating) -> bool:
        """Whether its counter was seen to move, a moment ago."""
        return held.token in self._moved and self.silent_s(held) < SAY_AFTER_S

    def dead(self, held: Beating) -> bool:
        """Whether its counter stood still for too long."""
        return not self.left_s(held)

    def left_s(self, held: Beating) -> float:
        """Seconds that it has left to show life."""
        return max(0.0, SILENCE_S - self.silent_s(held))

    def silent_s(self, held: Beating) -> float:
        """Seconds in which its counter stood still; 0 where it has moved since the last look."""
        same = self._beats.get(held.token) == held.beat
        return self._silent_s[held.token] if same else 0.0
