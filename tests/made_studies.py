"""Finished studies as a sweep leaves them, made without training: the response is known."""

import contextlib
import math
import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.study import Study
from optuna.trial import TrialState, create_trial
from support import empty_database

from sweep.storage.connect import open_storage
from trainers.config import TrainConfig

SPACE = {"learning_rate": FloatDistribution(1e-7, 10.0, log=True)}
IDENTITY = {
    "trainer": "trainers.train:train",
    "data_source": "english",
    "data_fingerprint": "0" * 64,
    "precision": "fp32",
    "epochs": 3,
    "seed": 0,
    "optimizer": "adam",
    "model.name": "context_vector",
    "model.options.hidden": 16,
    "model.options.dropout": 0.1,
}


def finished_study(
    database: Path,
    batch: int,
    optimum: float,
    *,
    parameters: int = 11276,
    complete: int = 7,
    about: dict[str, Any] | None = None,
    **identity: Any,
) -> Study:
    """A study whose perplexity is lowest at `optimum`, with seven complete trials around it.

    Args:
        database: an SQLite file, made where there is none.
        complete: how many of them there are.
        about: further attributes of the study, None for one that it lacks.
        identity: fields of its identity that differ from `IDENTITY`.
    """
    if not database.exists():
        database.write_bytes(empty_database())
    fields = {**IDENTITY, "batch_size": batch, **identity}
    name = "-".join(str(fields[key]) for key in ("batch_size", "precision", "seed", "epochs"))
    study = optuna.create_study(
        study_name=f"b{name}-{parameters}", storage=open_storage(str(database), create=False)
    )
    rules = {"unscaled": 3e-2, "sqrt": 3e-2 * math.sqrt(batch / 32), "own": 1e-2}
    attributes = {
        "identity": fields,
        "config": asdict(TrainConfig(learning_rate=1.0, epochs=int(fields["epochs"]))),
        "parameters": parameters,
        "range": [optimum / 30, optimum * 30],
        "trials": 7,
        "training_tokens": 10_000,
        "training_sequences": 500,
        "rules": [
            {"name": rule, "learning_rate": rate, "formula": "lr0", "source": "a test"}
            for rule, rate in rules.items()
        ],
        "finished": {"trials": 7, "until": ""},
        **(about or {}),
    }
    for key, value in attributes.items():
        if value is not None:
            study.set_user_attr(key, value)
    for x in (-2.4, -1.2, -0.6, 0.0, 0.5, 1.0, 1.5)[:complete]:
        add_trial(study, optimum * math.exp(x), 60 * math.exp(0.03 * x**2))
    return study


def copied(database: Path, folder: Path) -> Path:
    """A database of one's own with the same studies: to make them anew takes longer."""
    target = folder / "sweep.db"
    with (
        contextlib.closing(sqlite3.connect(database)) as source,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)
    return target


def add_trial(
    study: Study,
    rate: float,
    perplexity: float,
    state: TrialState = TrialState.COMPLETE,
) -> None:
    """One more trial."""
    study.add_trial(
        create_trial(
            state=state,
            params={"learning_rate": rate},
            distributions=SPACE,
            value=perplexity if state.is_finished() else None,
            intermediate_values={1: perplexity * 1.5, 3: perplexity},
        )
    )
