"""Finished studies that differ in batch, model size and length alone: what they say together."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study

from studies.exponents import Exponents, fit_exponents
from studies.law import Critical, Swept
from studies.rules import Setting
from studies.transfer import Prediction, find_optimum, predict, usual_critical_batch
from studies.trials import sound
from sweep.errors import SweepError
from sweep.results.belief import terms_of
from sweep.results.record import (
    SIZES_FIELD,
    WITH,
    StudyRecord,
    made_by_sweep,
    read_study,
    read_trial,
    without_spelling,
)
from trainers.length import budget_words

# Beside the model's sizes, what may differ: none of it moves the best rate by more than its noise.
CARRIED = ("precision", "seed")
FREE = ("batch_size", "evaluate_every", *CARRIED)
LENGTHS = ("epochs", "steps", "tokens")  # what says how long a run is
OPTIONS = "model.options."
SAME_TEXT = ("trainer", "model.name", "data_fingerprint", "program.command")
LEAST_COMPLETE = 2  # a study counts by its whole density; of one run that is its range
TOKENS, SEQUENCES, UNKNOWN = "tokens", "sequences", ""


@dataclass(frozen=True, slots=True)
class Family:
    """Finished studies of one model, text, optimizer and schedule.

    Attributes:
        swept: what each found, by model size, length and batch size.
        studies: the studies themselves, in the same order.
        sequence_tokens: tokens of a training sequence, on average; None where no study says so.
        unit: what lengths are counted in: "tokens", or "sequences" where not every study knows its
            tokens; "" where they are unknown, and the same by the studies' settings.
        held: what was held fixed, in words.
        carried: what differs but moves no rate by more than its noise, in words; "" for nothing.
        left_out: finished studies of this model and text that are not among them, by what else
            differs.
        too_short: finished studies that would be, but have too few whole runs.
    """

    swept: tuple[Swept, ...]
    studies: tuple[Study, ...]
    sequence_tokens: float | None
    unit: str
    held: str
    carried: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)
    too_short: int = 0

    @property
    def critical(self) -> Critical:
        """The critical batch size that so long a training usually has, at their mean length."""
        lengths = [swept.setting.length for swept in self.swept]
        if self.unit != TOKENS or not lengths:
            return usual_critical_batch(None, None)
        return usual_critical_batch(geometric_mean(lengths), self.sequence_tokens)

    @property
    def several(self) -> bool:
        """Whether there are two settings, so that exponents can be fitted."""
        return len({swept.setting for swept in self.swept}) > 1

    def counted(self, setting: Setting) -> Setting:
        """A setting with its length in the family's unit alone."""
        return _counted(setting, self.unit)


def find_family(storage: BaseStorage, identity: Mapping[str, Any]) -> Family:
    """Finds the finished studies that a study may learn from.

    All fields of their identities must agree but the batch size, the precision, the seed, how long
    a run is, and those options of the model that are whole numbers (its sizes): optimizer,
    schedule, decay, clipping, text, vocabulary, window and trainer are the same.

    Args:
        storage: the opened database.
        identity: the study's own fields.
    """
    # Not Optuna's summaries: these read every trial of every study.
    records = {s.study_name: read_study(s) for s in storage.get_all_studies() if made_by_sweep(s)}
    searched = {name: record for name, record in records.items() if not record.fixed}
    names = [name for name, each in searched.items() if comparable(each.identity, identity)]
    loaded = [optuna.load_study(study_name=name, storage=storage) for name in names]
    others = Counter(
        difference
        for record in searched.values()
        if record.finished and (difference := _difference(record.identity, identity))
    )
    found = make_family([study for study in loaded if is_finished(study)], identity)
    short = [study for study in loaded if read_study(study).finished and not is_known(study)]
    return replace(found, left_out=dict(others), too_short=len(short))


def make_family(studies: Iterable[Study], identity: Mapping[str, Any]) -> Family:
    """Reads finished studies that are comparable.

    Args:
        studies: that are.
        identity: of the study that asks; where lengths are unknown, its own is the only one.
    """
    members = list(studies)
    records = {study.study_name: read_study(study) for study in members}
    settings = {study.study_name: setting_of(study) for study in members}
    unit = _unit(settings.values())
    if unit == UNKNOWN:
        same = [_lengths(identity) == _lengths(records[s.study_name].identity) for s in members]
        members = [study for study, kept in zip(members, same, strict=True) if kept]
    found = [
        (_swept(study, _counted(settings[study.study_name], unit)), study) for study in members
    ]
    found.sort(key=lambda each: _order(each[0].setting))
    return Family(
        tuple(swept for swept, _ in found),
        tuple(study for _, study in found),
        next((tokens for study in members if (tokens := sequence_tokens(study))), None),
        unit,
        _held([records[study.study_name] for _, study in found]),
        _carried([records[study.study_name] for _, study in found]),
    )


def setting_of(study: Study) -> Setting:
    """A study's batch, model size and length, as far as it says them."""
    record = read_study(study)
    text = record.training_sequences or 0, record.training_tokens or 0
    return run_setting(record.identity, record.parameters, text, _steps_said(study))


def run_setting(
    identity: Mapping[str, Any], parameters: int, text: tuple[int, int], said: int = 0
) -> Setting:
    """A run's batch, model size and length.

    Args:
        identity: of its study.
        parameters: of its model.
        text: sequences and tokens of an epoch; 0 where they are unknown.
        said: steps of a whole run, as its program said; 0 where it did not.
    """
    batch, epochs, steps, tokens = (
        int(identity.get(name) or 0) for name in ("batch_size", "epochs", "steps", "tokens")
    )
    per_sequence = text[1] / text[0] if all(text) else 0.0
    if steps or "program.command" in identity:
        sequences = float((steps or said) * batch)
    else:
        sequences = tokens / per_sequence if tokens and per_sequence else float(epochs * text[0])
    length = tokens or sequences * per_sequence or float(epochs * text[1])
    return Setting(batch, parameters, length or None, sequences or None)


def predict_optimum(family: Family, setting: Setting) -> Prediction | None:
    """The best rate at a setting; None where the family is empty."""
    if not family.swept:
        return None
    return predict(family.swept, family.counted(setting), family.critical)


def exponents(family: Family) -> Exponents | None:
    """How the best rate scales; None where all studies have one setting."""
    return fit_exponents(family.swept) if family.several else None


def comparable(there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether two identities differ in nothing but batch, model size, length and `FREE` fields.

    Where the weight decay was searched too, the best rate is that of another decay each time.
    """
    return WITH not in here and _fixed(there) == _fixed(here)


def check_family(study: Study) -> None:
    """Refuses a study that can have no family: no law here carries rate and weight decay together.

    Raises:
        SweepError: the weight decay was searched too.
    """
    if WITH in read_study(study).identity:
        raise SweepError(
            f"study '{study.study_name}' searched the weight decay too, and no law here carries "
            "both: name a study of one decay with --study"
        )


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


def geometric_mean(values: Iterable[float | None]) -> float:
    """Of what is known."""
    logs = [math.log(value) for value in values if value]
    return math.exp(math.fsum(logs) / len(logs))


def sequence_tokens(study: Study) -> float | None:
    """Tokens of a training sequence, on average; None where a study does not say them."""
    return _sequence_tokens(read_study(study))


def _fixed(identity: Mapping[str, Any]) -> dict[str, Any]:
    # A decay that counts other epochs than the run's own has another course in a longer run.
    horizon = any(identity.get(f"lr_schedule.horizon_{unit}") for unit in ("epochs", "steps"))
    free = FREE if horizon else (*FREE, *LENGTHS)
    whole = without_spelling(identity)
    return {n: value for n, value in whole.items() if n not in free and not _is_size(n, value)}


def _is_size(name: str, value: object) -> bool:
    """Whether it is a size of the model; the base sizes of muP say what a rate is, and are none."""
    whole = name.startswith((OPTIONS, SIZES_FIELD)) and type(value) is int
    return whole and not name.startswith(f"{OPTIONS}base_")


def _difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What sets two studies of one model and text apart; "" where nothing does, or they are not."""
    if any(there.get(name) != here.get(name) for name in SAME_TEXT):
        return ""
    first, second = _fixed(there), _fixed(here)
    names = sorted(first.keys() | second.keys())
    return ", ".join(name for name in names if first.get(name) != second.get(name))


def _lengths(identity: Mapping[str, Any]) -> list[Any]:
    return [identity.get(name) or 0 for name in LENGTHS]


def _unit(settings: Iterable[Setting]) -> str:
    known = list(settings)
    if all(each.tokens for each in known):
        return TOKENS
    return SEQUENCES if all(each.sequences for each in known) else UNKNOWN


def _counted(setting: Setting, unit: str) -> Setting:
    return replace(
        setting,
        tokens=setting.tokens if unit == TOKENS else None,
        sequences=setting.sequences if unit == SEQUENCES else None,
    )


def _order(setting: Setting) -> tuple[int, float, int]:
    return setting.parameters, setting.length or 0.0, setting.batch_size


def _steps_said(study: Study) -> int:
    """Steps of a whole run, where only the trainer knows them."""
    trials = study.get_trials(deepcopy=False)
    return max((read_trial(trial).steps for trial in trials), default=0)


def _swept(study: Study, setting: Setting) -> Swept:
    terms = terms_of(read_study(study))
    return find_optimum(study.study_name, setting, study.get_trials(deepcopy=False), terms)


def _sequence_tokens(record: StudyRecord) -> float | None:
    sequences, tokens = record.training_sequences, record.training_tokens
    said = record.train.program.sequence_tokens
    return tokens / sequences if sequences and tokens else float(said) or None


def _held(records: list[StudyRecord]) -> str:
    """What all of them have in common, in words."""
    if not records:
        return ""
    of_all = [_budget(records[0])] if len({_budget(record) for record in records}) == 1 else []
    for name in CARRIED:
        values = {record.identity.get(name) for record in records}
        of_all += [f"{name} {values.pop()}"] if len(values) == 1 else []
    return ", ".join(of_all)


def _carried(records: list[StudyRecord]) -> str:
    """What else than the axes of the law differs between them, in words."""
    values = {name: sorted({str(r.identity.get(name)) for r in records}) for name in CARRIED}
    several = [f"{name} ({', '.join(each)})" for name, each in values.items() if len(each) > 1]
    return " and ".join(several)


def _budget(record: StudyRecord) -> str:
    train, tokens = record.train, record.training_tokens
    if train.program.command:
        return f"{train.steps:,} steps" if train.steps else f"the command of {record.model}"
    words = budget_words(train)
    return f"{words} of {tokens:,} tokens" if train.epochs and tokens else words
