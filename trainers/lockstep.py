"""Several runs side by side: what they ask for at the same time is done together."""

from collections.abc import Callable, Generator
from typing import Any

from trainers.faults import ending_of
from trainers.report import Ending, Outcome, Progress, Report, Verdict
from trainers.train import Message, Step, Work, perform

CohortMember = Generator[Any, Any, Any]


class Lockstep:
    """Drives runs of the shared loop, or one of a trainer of the user's own.

    Runs stay in step: a new one begins where another has just reported. One that was stopped
    between two reports goes on beside the others, and is only evaluated apart from them.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, Callable[[], CohortMember]] = {}
        self._runs: dict[int, CohortMember] = {}
        self._requests: dict[int, Work] = {}
        self._answers: dict[int, Any] = {}

    def add(self, number: int, begin: Callable[[], CohortMember]) -> None:
        """Takes a run in.

        Args:
            number: names it from here on.
            begin: makes its generator; what it raises is the run's ending.
        """
        self._waiting[number] = begin

    def answer(self, number: int, verdict: Verdict | None) -> None:
        """Answers what a run said last, or will say next. Unknown numbers are ignored."""
        if number in self._waiting or number in self._runs:
            self._answers[number] = verdict

    def advance(self) -> dict[int, Message | Ending]:
        """Goes on until some run has something to say.

        Returns:
            What each of them says; a run with an ending is out. Nothing where there are no runs.
        """
        while True:
            messages = self._turn()
            if messages or not self._requests:
                return messages
            messages = self._work()
            if messages:
                return messages

    def _turn(self) -> dict[int, Message | Ending]:
        """Lets every run go on that waits for no work, and begins new ones after a report."""
        messages: dict[int, Message | Ending] = {}
        for number in [number for number in self._runs if number not in self._requests]:
            self._go_on(number, self._answers.pop(number, None), messages)
        requests = self._requests.values()
        if not requests or any(isinstance(work, Step) and work.first for work in requests):
            for number in list(self._waiting):
                self._begin(number, messages)
        return messages

    def _work(self) -> dict[int, Message | Ending]:
        """Does what was asked for, and passes the results on."""
        messages: dict[int, Message | Ending] = {}
        requests, self._requests = self._requests, {}
        groups: dict[int, dict[int, Work]] = {}
        for number, work in requests.items():
            groups.setdefault(_rows(work), {})[number] = work
        for group in groups.values():
            try:
                results = perform(list(group.values()))
            except Exception as error:  # of all of them together, so it ends them all
                for number in group:
                    self._take(number, _ending(error), messages)
            else:
                for number, result in zip(group, results, strict=True):
                    self._go_on(number, result, messages)
        return messages

    def _begin(self, number: int, messages: dict[int, Message | Ending]) -> None:
        try:
            self._runs[number] = self._waiting.pop(number)()
        except Exception as error:
            self._take(number, _ending(error), messages)
        else:
            self._go_on(number, None, messages)

    def _go_on(self, number: int, value: object, messages: dict[int, Message | Ending]) -> None:
        try:
            word = self._runs[number].send(value)
        except Exception as error:
            word = _ending(error)
        self._take(number, word, messages)

    def _take(self, number: int, word: object, messages: dict[int, Message | Ending]) -> None:
        """Keeps a demand for work; whatever else a run says is passed on."""
        if isinstance(word, Work):
            self._requests[number] = word
            return
        if not isinstance(word, Progress | Report | Ending):
            word = _ending(TypeError(f"a trainer yields Progress and Report, not {word!r}"))
        messages[number] = word
        if isinstance(word, Ending):
            self._answers.pop(number, None)
            if run := self._runs.pop(number, None):
                run.close()


def _rows(work: Work) -> int:
    """What can be done together: evaluations, or steps of as many rows."""
    return len(work.batch.lengths_B) if isinstance(work, Step) else 0


def _ending(error: Exception) -> Ending:
    """How a run ended: what its generator returned, or what it raised."""
    if isinstance(error, StopIteration):
        return error.value if isinstance(error.value, Ending) else Ending(Outcome.COMPLETED)
    return ending_of(error)
