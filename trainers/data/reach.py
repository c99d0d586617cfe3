"""Whether the Hugging Face hub answers, and `datasets` without its noise.

`datasets` is imported in the functions: it takes over a second, and most runs have their corpus.
"""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainers.errors import TrainerError

_PROBE_S = 5.0


class UnreachableError(TrainerError):
    """The hub does not answer and the data set is not in the local cache.

    Attributes:
        reason: the first half of the message: what happened.
    """

    def __init__(self, reason: str, name: str) -> None:
        self.reason = reason
        super().__init__(
            f"{reason}, and {name} is not in the local cache: check the network, set "
            'data.fallback = "docstrings", or name a local file or folder'
        )


def why_unreachable() -> str:
    """Ask the hub for a sign of life, once and for seconds: `load_dataset` retries for 23 s.

    Returns:
        Why it cannot be reached, "" where it can.
    """
    import datasets
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE or datasets.config.HF_HUB_OFFLINE:
        return "the hub may not be reached (HF_HUB_OFFLINE is set)"
    try:
        answer = get_session().head(constants.ENDPOINT, timeout=_PROBE_S)
    except Exception as error:  # of requests, httpx or httpx2, as huggingface_hub's version has it
        return f"the hub could not be reached ({one_line(error)})"
    if answer.status_code >= 500:
        return f"the hub could not be reached (it answers {answer.status_code})"
    return ""


def one_line(error: BaseException) -> str:
    """Put an error's text into one line of bearable length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


@contextmanager
def offline(wanted: bool) -> Iterator[None]:
    """Let `datasets` look into its cache at once, as HF_HUB_OFFLINE does, where it is wanted."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or wanted
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


class _Heard(logging.Handler):
    """Keeps the last thing that `datasets` logged: its exceptions do not name the file."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


_heard = _Heard(logging.ERROR)


def last_file() -> Path:
    """The file that `datasets` could not read; an empty path where it named none."""
    found = re.search(r"file '(.+?)' with error", _heard.text)
    return Path(found[1]) if found else Path()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars, log lines and warnings of `datasets` off the user's screen."""
    import datasets

    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    before = [(logger.level, logger.propagate, logger.handlers) for logger in loggers]
    _heard.text = ""
    bars = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
        logger.propagate, logger.handlers = False, [_heard]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.propagate, logger.handlers = propagate, handlers
        if not bars:
            datasets.enable_progress_bars()
