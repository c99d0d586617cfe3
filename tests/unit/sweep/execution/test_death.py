import signal

import pytest

from sweep.execution import death


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (9, "exit code 9"),
        (-signal.SIGTERM, "killed by SIGTERM"),
        (-40, "killed by signal 40"),
        (None, "exit code 0"),
    ],
)
def test_a_death_in_words(code: int | None, words: str) -> None:
    assert death.words(code) == words


@pytest.mark.parametrize(
    ("code", "counted", "known"), [(-9, 4, True), (-9, 3, False), (-15, 4, False)]
)
def test_want_of_memory_is_said_only_where_the_system_counted_it(
    monkeypatch: pytest.MonkeyPatch, code: int, counted: int, known: bool
) -> None:
    monkeypatch.setattr(death, "killed_for_memory", lambda: counted)
    assert death.killed_for_want_of_memory(code, 3) is known
