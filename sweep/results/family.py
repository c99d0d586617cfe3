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
    names = [
        summary.study_name
        for summary in optuna.get_all_study_summaries(storage)
        if summary.user_attrs.get("kind") != "fixed"  # their rates were given, not searched
        and comparable(summary.user_attrs.get("identity"), identity)
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


def comparable(there: Mapping[str, Any] | None, here: Mapping[str, Any]) -> bool:
    """Whether two identities differ in nothing but `FREE` fields and the model's sizes."""
    return there is not None and _fixed(there) == _fixed(here)


def is_finished(study: Study) -> bool:
    """Whether a study ran to its end, and says where its best rate is."""
    about = study.user_attrs
    if not is_known(study):
        return False
    if "finished" in about:
        return bool(about["finished"])
    # Made before studies were marked: all its trials have ended.
    trials = study.get_trials(deepcopy=False)
    ended = [t for t in trials if t.state.is_finished() and not t.user_attrs.get("by_hand")]
    return len(ended) >= int(about["trials"])


def is_known(study: Study) -> bool:
    """Whether enough trials are complete to say where the best rate is."""
    return sum(map(sound, study.get_trials(deepcopy=False))) >= LEAST_COMPLETE


def _fixed(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in identity.items()
        if name not in FREE and not (name.startswith(OPTIONS) and type(value) is int)
    }


def _swept(study: Study) -> Swept:
    about = study.user_attrs
    per_epoch = about.get("training_tokens")
    tokens = per_epoch * about["identity"]["epochs"] if per_epoch else None
    setting = Setting(about["identity"]["batch_size"], about["parameters"], tokens)
    return find_optimum(
        study.study_name, setting, study.get_trials(deepcopy=False), terms_of(about)
    )


def _sequence_tokens(study: Study) -> float | None:
    sequences = study.user_attrs.get("training_sequences")
    tokens = study.user_attrs.get("training_tokens")
    return tokens / sequences if sequences and tokens else None


def _held(studies: tuple[Study, ...]) -> str:
    if not studies:
        return ""
    about = studies[0].user_attrs
    epochs, tokens = about["identity"]["epochs"], about.get("training_tokens")
    budget = f"{epochs} epochs of {tokens:,} tokens" if tokens else f"{epochs} epochs"
    same = {
        field: {study.user_attrs["identity"].get(field) for study in studies}
        for field in ("precision", "seed")
    }
    fixed = [budget, *(f"{field} {min(v)}" for field, v in same.items() if len(v) == 1)]
    return ", ".join(fixed)
