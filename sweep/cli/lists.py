"""Option values with commas between them: "32,256"."""

from collections.abc import Callable
from typing import Any

import click


def several(read: Callable[[str], Any], what: str) -> Callable[..., list[Any] | None]:
    """Makes a callback that reads such a value.

    Args:
        read: one part; raises ValueError.
        what: the parts, in the words of the refusal.
    """

    def parse(
        _context: click.Context, option: click.Parameter, text: str | None
    ) -> list[Any] | None:
        if text is None:
            return None
        try:
            return [read(part.strip()) for part in text.split(",")]
        except ValueError:
            raise click.BadParameter(
                f"takes {what} with commas between, got '{text}'", param=option
            ) from None

    return parse


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _precision(text: str) -> str:
    from typing import get_args

    from trainers.config import PrecisionName

    if text not in get_args(PrecisionName):
        raise ValueError
    return text


counts = several(_count, "whole numbers from 1 on")
numbers = several(float, "numbers")
precisions = several(_precision, "fp32, tf32, fp16 and bf16")
