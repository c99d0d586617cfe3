"""Finished studies that differ in batch and model size alone, and what they say together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study

from studies.exponents import Exponents, fit_exponents
from studies.rules import Setting
from studies.transfer import (
    Critical,
    Prediction,
    Swept,
    find_optimum,
    predict,
    usual_critical_batch,
)
from studies.trials import sound
from sweep.results.belief import terms_of
from sweep.results.record import made_by_sweep, read_study, read_trial, without_spelling
from trainers.length import budget_words

# Beside the model's sizes, what may differ: none of it moves the best rate by more than its noise.
FREE = ("batch_size", "precision", "seed")
OPTIONS = "model.options."
LEAST_COMPLETE = 3  # before that a study's best rate may be anywhere


@dataclass(frozen=True, slots=True)
class Family:
    """Finished studies of one model, text, budget and optimizer.

    Attributes:
        swept: what each found, by model and batch size.
        studies: the studies themselves, in the same order.
        sequence_tokens: tokens of a training sequence, on average; None where no study says so.
        held: what was held fixed, in words.
    """

    swept: tuple[Swept, ...]
    studies: tuple[Study, ...]
    sequence_tokens: float | None
    held: str

    @property
    def critical(self) -> Critical:
        """The critical batch size that so long a training usually has."""
        tokens = self.swept[0].setting.tokens if self.swept else None
        return usual_critical_batch(tokens, self.sequence_tokens)

    @property
    def several(self) -> bool:
        """Whether there are two settings, so that exponents can be fitted."""
        return len({(s.setting.batch_size, s.setting.parameters) for s in self.swept}) > 1


def find_family(storage: BaseStorage, identity: Mapping[str, Any]) -> Family:
    """Finds the finished studies that a study may learn from.

    All fields of their identities must agree but the batch size, the precision, the seed, and those
    options of the model that are whole numbers (its sizes): optimizer, schedule, clipping, epochs,
    text, vocabulary, window and trainer are the same.

    Args:
        storage: the opened database.
        identity: the study's own fields.
    """
    # Not Optuna's summaries: these read every trial of every study.
    records = {s.study_name: read_study(s) for s in storage.get_all_studies() if made_by_sweep(s)}
    names = [
        name
        for name, record in records.items()
        if not record.fixed and comparable(record.identity, identity)
    ]
    loaded = [optuna.load_study(study_name=name, storage=storage) for name in names]
    return make_family(study for study in loaded if is_finished(study))


def make_family(studies: Iterable[Study]) -> Family:
    """Reads finished studies that are comparable."""
    found = [(_swept(study), study) for study in studies]
    found.sort(key=lambda each: (each[0].setting.parameters, each[0].setting.batch_size))
    members = tuple(study for _, study in found)
    return Family(
        tuple(swept for swept, _ in found),
        members,
        next((tokens for study in members if (tokens := _sequence_tokens(study))), None),
        _held(members),
    )


def predict_optimum(family: Family, setting: Setting) -> Prediction | None:
    """The best rate at a setting; None where the family is empty."""
    return predict(family.swept, setting, family.critical) if family.swept else None


def exponents(family: Family) -> Exponents | None:
    """How the best rate scales; None where all studies have one setting."""
    return fit_exponents(family.swept) if family.several else None


def comparable(there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether two identities differ in nothing but `FREE` fields and the model's sizes."""
    return _fixed(without_spelling(there)) == _fixed(without_spelling(here))


def is_finished(study: Study) -> bool:
    """Whether a study ran to its end, and says where its best rate is."""
    if not is_known(study):
        return False
    record = read_study(study)
    if record.finished is not None:
        return bool(record.finished)
    # Made before studies were marked: all its trials have ended.
    trials = study.get_trials(deepcopy=False)
    ended = [t for t in trials if t.state.is_finished() and not read_trial(t).by_hand]
    return len(ended) >= record.trials


def is_known(study: Study) -> bool:
    """Whether enough trials are complete to say where the best rate is."""
    objective = read_study(study).objective
    complete = [each for each in study.get_trials(deepcopy=False) if sound(each, objective)]
    return len(complete) >= LEAST_COMPLETE


def _fixed(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in identity.items()
        if name not in FREE and not (name.startswith(OPTIONS) and type(value) is int)
    }


def _swept(study: Study) -> Swept:
    record = read_study(study)
    setting = Setting(record.batch_size, record.parameters, record.tokens)
    return find_optimum(
        study.study_name, setting, study.get_trials(deepcopy=False), terms_of(record)
    )


def _sequence_tokens(study: Study) -> float | None:
    record = read_study(study)
    sequences, tokens = record.training_sequences, record.training_tokens
    return tokens / sequences if sequences and tokens else None


def _held(studies: tuple[Study, ...]) -> str:
    if not studies:
        return ""
    records = [read_study(study) for study in studies]
    tokens, budget = records[0].training_tokens, budget_words(records[0].train)
    if tokens and records[0].epochs:
        budget = f"{budget} of {tokens:,} tokens"
    if records[0].train.program.command:
        steps = records[0].train.steps
        budget = f"{steps:,} steps" if steps else f"the command of {records[0].model}"
    same = {
        field: {record.identity.get(field) for record in records} for field in ("precision", "seed")
    }
    fixed = [budget, *(f"{field} {v.pop()}" for field, v in same.items() if len(v) == 1)]
    return ", ".join(fixed)
