"""What tests of the shared trainer have in common: a little real text, and a run of it."""

import argparse
import inspect
import json
import logging
import string
import textwrap
import threading
import types
from collections.abc import Sequence
from pathlib import Path

from trainers.config import TrainConfig
from trainers.report import Outcome, Report, Verdict
from trainers.train import train


def write_docstrings(folder: Path) -> Path:
    """A text file of docstrings of the standard library."""
    modules = (argparse, json, logging, string, textwrap, threading)
    found = [value for module in modules for value in vars(module).values()]
    documents = [inspect.getdoc(it) for it in found if isinstance(it, type | types.FunctionType)]
    text = folder / "text.txt"
    text.write_text("\n\n".join(filter(None, documents)))
    return text


def trained(
    config: TrainConfig,
    folder: Path,
    pause_after: int = 0,
    *,
    device: str = "cpu",
    trunks: Sequence[Path] = (),
) -> tuple[list[Report], Outcome]:
    """All reports of a run on the CPU, and how it ended; paused after the named epoch, if any."""
    reports: list[Report] = []
    run, verdict = train(config, device=device, directory=folder, trunks=trunks), None
    while True:
        try:
            message = run.send(verdict)
        except StopIteration as stop:
            return reports, stop.value.outcome
        verdict = None
        if isinstance(message, Report):
            reports.append(message)
            paused = message.epoch == pause_after > 0
            verdict = Verdict.PAUSE if paused else Verdict.CONTINUE
