"""For training programs that `sweep run -- COMMAND` runs: tells the sweep how a run does.

    from sweep.client import report

    if report(step=500, validation_loss=3.21).stop:
        break

Outside a sweep it does nothing. It needs nothing but Python's own library.
"""

import json
import os
import sys
import time

__all__ = ["Verdict", "learning_rate", "report", "weight_decay"]

_REPORTS, _ANSWERS = "SWEEP_REPORTS", "SWEEP_ANSWERS"
_RATE, _DECAY = "SWEEP_LEARNING_RATE", "SWEEP_WEIGHT_DECAY"
_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
_LOOK_S = 0.005
_PATIENCE_S = 600.0
_answered, _offset = -1, 0
_stopped = False


class Verdict:
    """The sweep's answer to a report.

    Attributes:
        stop: the run is to end here: save what you want to keep, and leave. Shortly after, the
            program is sent SIGTERM.
    """

    def __init__(self, *, stop: bool = False) -> None:
        self.stop = stop

    def __bool__(self) -> bool:
        """Whether to stop, for `if report(...): break`."""
        return self.stop


def learning_rate(default: float) -> float:
    """The rate that the sweep wants; outside a sweep the program's own.

    Args:
        default: the program's own.
    """
    return float(os.environ.get(_RATE, default))


def weight_decay(default: float) -> float:
    """The weight decay that the sweep wants, where it searches one; otherwise the program's own.

    Args:
        default: the program's own.
    """
    return float(os.environ.get(_DECAY) or default)


def report(
    step: int,
    *,
    validation_loss: float | None = None,
    perplexity: float | None = None,
    tokens: int | None = None,
    steps: int | None = None,
    **metrics: float,
) -> Verdict:
    """Reports how a run does at a step, and hears whether it is to go on.

    Every rank of a distributed run may call it: the first one is heard, and all of them hear the
    same answer. A number may be a tensor of one element.

    Args:
        step: optimizer steps so far.
        validation_loss: nats a token.
        perplexity: in its place.
        tokens: trained on so far.
        steps: of the whole run.
        metrics: whatever else is known, such as train_loss, by its name.

    Returns:
        Whether to stop. A run that the sweep looks at meanwhile waits for that, for some
        milliseconds as a rule.
    """
    if _REPORTS not in os.environ:
        return Verdict()
    given = {
        "step": step,
        "steps": steps,
        "tokens": tokens,
        "validation_loss": validation_loss,
        "perplexity": perplexity,
        **metrics,
    }
    fields = {name: _number(name, value) for name, value in given.items() if value is not None}
    if _rank() == 0:
        line = json.dumps(fields) + "\n"
        file = os.open(os.environ[_REPORTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)
    return Verdict(stop=_wait_for_answer(int(step)))


def _number(name: str, value: object) -> float | int:
    if name in ("step", "steps", "tokens"):
        return int(value)  # type: ignore[call-overload, no-any-return]
    # A tensor that is part of a graph warns where it is turned into a number.
    plain = value.detach() if hasattr(value, "detach") else value
    return float(plain)  # type: ignore[arg-type]


def _rank() -> int:
    return next((int(os.environ[name]) for name in _RANKS if os.environ.get(name)), 0)


def _wait_for_answer(step: int) -> bool:
    global _stopped
    deadline = time.monotonic() + _PATIENCE_S
    while _answered < step and not _stopped:
        _read_answers()
        if _answered < step and not _stopped:
            if time.monotonic() > deadline:
                print("sweep.client: no answer from the sweep: training goes on", file=sys.stderr)
                return False
            time.sleep(_LOOK_S)
    return _stopped


def _read_answers() -> None:
    global _answered, _offset, _stopped
    try:
        with open(os.environ[_ANSWERS], "rb") as file:  # noqa: PTH123  # pathlib takes 20 ms
            file.seek(_offset)
            read = file.read()
    except FileNotFoundError:
        return
    whole = read[: read.rfind(b"\n") + 1]
    _offset += len(whole)
    for line in whole.splitlines():
        answer = json.loads(line)
        _answered = max(_answered, answer["step"])
        _stopped = _stopped or answer["stop"]
