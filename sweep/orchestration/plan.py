"""From a configuration to what the study is: its setting, rules, first rates and identity."""

import dataclasses
import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.decay import DECAY, DecaySearch
from studies.definition import WIDE, Identity
from studies.objective import Objective
from studies.observed import Terms
from studies.prior import Centre, Prior, centres, rule_priors
from studies.pruner import make_pruner
from studies.rules import RULES, FunctionRule, Reference, Rule, ScalingRule, Setting
from studies.sampler import make_sampler
from studies.stopping import parse_until
from studies.transfer import FORECAST
from sweep.config.schema import RuleSettings, StudySettings, SweepConfig
from sweep.errors import SweepError
from sweep.execution.executors import EXECUTORS
from sweep.execution.protocol import SHARED_TRAINER
from sweep.orchestration.ranges import decay_search, rates_range
from sweep.orchestration.samplers import named_sampler
from sweep.results.lookup import UNSET
from sweep.results.objective import check_bytes, check_metric, objective_of
from sweep.results.record import SIZES_FIELD, WITH
from sweep.storage.connect import sqlite_path
from trainers.config import TrainConfig
from trainers.data import Corpus, source_fingerprint, tokenizer_content
from trainers.errors import TrainerError
from trainers.importing import import_object
from trainers.length import budget_words
from trainers.models import check_packing, count_parameters
from trainers.naming import WORDS, plain_name
from trainers.optimizers import OPTIMIZERS
from trainers.program.command import check_steps, name_of, tells_decay
from trainers.refusals import shown

SWEPT_MARGIN, GUESSED_MARGIN = 3.0, 10.0
LONGEST_NAME = 200  # bytes: file systems take 255
LONGEST_PART = 70  # of a name that is made: two of them, and what is put behind it


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known before a study exists.

    Attributes:
        train: every trial's configuration but for its learning rate.
        rates: each rule's own rate, in the order of the rules.
        borrowed: why the reference's perplexity is not comparable; "" where it is.
        first: the rates tried first.
        priors: how far each rule is trusted.
        decay: what is known of the weight decay, where it is searched too; the rules' rates are
            tried at its middle, which `train` has.
    """

    config: SweepConfig
    train: TrainConfig
    setting: Setting
    reference: Reference
    borrowed: str
    rules: tuple[Rule, ...]
    rates: dict[str, float]
    first: tuple[Centre, ...]
    priors: dict[str, Prior]
    low: float
    high: float
    decay: DecaySearch | None = None


def make_plan(
    config: SweepConfig, corpus: Corpus | None = None, *, parameters: int | None = None
) -> Plan:
    """Works out the setting, the rules' rates and the range; refuses names that do not exist.

    Args:
        config: the resolved configuration.
        corpus: the text that was loaded; None before there is one.
        parameters: the model's size where it is known without building it.

    Raises:
        SweepError, TrainerError, StudyError: a rule, range, model or optimizer is not usable.
    """
    train = config.trainer
    _check_gpus(config)
    if config.study.trainer == SHARED_TRAINER:
        OPTIMIZERS.check(train.optimizer)
        check_packing(train.model, train.data)
        if train.data.tokenizer == WORDS:  # of others the text tells, once it is read
            check_bytes(train, config.study.trainer, None)
    if train.program.command:
        check_steps(train)
        parameters = train.program.parameters or config.reference.parameters
    if parameters is None:
        size = corpus.vocabulary_size if corpus else train.data.vocabulary_size
        parameters = _parameters(train, size)
    setting = Setting(batch_size=train.batch_size, parameters=parameters)
    reference = _reference(config)
    rules = _rules(config)
    rates = {rule.name: rule.learning_rate(reference, setting) for rule in rules}
    borrowed = _borrowed(reference, config, corpus)
    # A rule carries a swept reference within a factor of 3 or so; a guess may be anywhere.
    trusted = reference.swept and not borrowed
    low, high = rates_range(config, rates, SWEPT_MARGIN if trusted else GUESSED_MARGIN)
    given = tuple(Centre(rate, ()) for rate in config.study.rates)
    _check_search(config.study, low, high, objective_of(train))
    first = tuple(centres(rules, reference, setting, low=low, high=high))
    decay = decay_search(config, first[0].learning_rate, reference) if config.study.with_ else None
    if decay is not None:
        train = dataclasses.replace(train, weight_decay=decay.middle)
    return Plan(
        config=config,
        train=train,
        setting=setting,
        reference=reference,
        borrowed=borrowed,
        rules=rules,
        rates=rates,
        first=given or first,
        priors=rule_priors(rules, dataclasses.replace(reference, swept=trusted), setting),
        low=low,
        high=high,
        decay=decay,
    )


def _check_gpus(config: SweepConfig) -> None:
    gpus = int(max(config.study.gpus_per_trial, config.slurm.gpus))
    if config.study.trainer == SHARED_TRAINER and gpus > config.trainer.batch_size:
        raise SweepError(
            f"study.gpus_per_trial (--gpus-per-trial) is {gpus}, and they share the rows of a "
            f"batch, which has {config.trainer.batch_size}: take fewer, or a larger batch"
        )


def study_name(plan: Plan) -> str:
    """The study's name: the one given, or `{model}-b{batch}-{precision}-{data}-{hash8}`."""
    if plan.config.study.name:
        return plan.config.study.name
    if plan.train.program.command:
        model = _cut(_short(name_of(plan.train.program.command)))
        return f"{_before_data(plan, model)}{Identity(identity_fields(plan)).hash8}"
    before, after = _around_data(plan)
    return f"{before}{_cut(_short(Path(plain_name(plan.train.data.name)).name))}{after}"


def renamed(plan: Plan, names: Iterable[str], suffix: str) -> list[str]:
    """Those of some studies' names that are the study's but for what its text was called."""
    own_text = "data.content" in identity_fields(plan)
    if plan.config.study.name or not own_text:
        return []
    before, after = _around_data(plan)
    return sorted(
        name for name in names if name.startswith(before) and name.endswith(f"{after}{suffix}")
    )


def earlier_names(plan: Plan) -> list[str]:
    """The names that earlier versions gave: they held the name of the text, or the whole path."""
    if plan.config.study.name or plan.train.program.command:
        return []
    train = plan.train
    model, data = train.model.name.rpartition(":")[2], train.data.name
    models = _short(model), _cut(_short(model))
    texts = _short(Path(data).name), _cut(_short(Path(plain_name(data)).name))
    sources = (source_fingerprint(train.data, everything=each) for each in (True, False))
    parts = zip(models, texts, earlier_fields(plan), sources, strict=True)
    return [
        f"{_before_data(plan, model)}{text}{_after_data(fields, source)}"
        for model, text, fields, source in parts
    ]


def _around_data(plan: Plan) -> tuple[str, str]:
    """What stands before and behind the text in a made name."""
    train = plan.train
    model = _cut(_short(train.model.name.rpartition(":")[2]))
    after = _after_data(identity_fields(plan), source_fingerprint(train.data))
    return _before_data(plan, model), after


def _before_data(plan: Plan, model: str) -> str:
    return f"{model}-b{plan.train.batch_size}-{plan.train.precision}-"


def _after_data(fields: dict[str, Any], source: str) -> str:
    return f"-{Identity({**fields, 'source': source}).hash8}"


def identity_fields(plan: Plan) -> dict[str, Any]:
    """What makes two trials comparable, but for the text itself: flat keys to plain values.

    The user's own text is known by its content, whatever it is called. A field that earlier
    versions did not have is left out where it is as it was then, so that their studies are found
    under the names that they have.
    """
    data = plan.train.data
    if plan.train.program.command:
        return _program_fields(plan)
    content = source_fingerprint(data)
    fields = _fields(plan, data.name, content)
    if content:
        del fields["data.name"]
    return fields


def earlier_fields(plan: Plan) -> list[dict[str, Any]]:
    """The same as earlier versions had them.

    The first had a text's path as it was spelled, and hashed what tools left beside it; the second
    had its name without the way to it.
    """
    data = plan.train.data
    if plan.train.program.command:
        return []
    return [
        _fields(plan, data.name, source_fingerprint(data, everything=True)),
        _fields(plan, plain_name(data.name), source_fingerprint(data)),
    ]


def _fields(plan: Plan, name: str, content: str) -> dict[str, Any]:
    fields = dataclasses.asdict(plan.train)
    for free in ("learning_rate", "micro_batch", "checkpoint_every", "keep_trunk"):
        del fields[free]
    fields["data"]["name"] = name
    tokenizer = tokenizer_content(plan.train.data)
    if tokenizer:  # wherever its file lies
        fields["data"]["tokenizer"] = tokenizer[:12]
    if content:  # the user's own text, which may have changed under the same name
        fields["data"]["content"] = content[:12]
    if plan.decay is not None:
        del fields["weight_decay"]
        fields[WITH] = DECAY
    flat = Identity.of({"trainer": plan.config.study.trainer, **fields}).fields
    return {k: value for k, value in flat.items() if k not in UNSET or value != UNSET[k]}


def _program_fields(plan: Plan) -> dict[str, Any]:
    """Of a program what it is told, and its name; whether its script is the same is asked apart."""
    train = plan.train
    fields = {
        "trainer": plan.config.study.trainer,
        "batch_size": train.batch_size,
        "precision": train.precision,
        "epochs": train.epochs,
        "seed": train.seed,
        "metric": train.metric,
        "program.command": shlex.join(train.program.command),
        "model.name": name_of(train.program.command),
        "data_source": "",
        "data_fingerprint": "",
    }
    fields |= {f"{SIZES_FIELD}{name}": value for name, value in train.program.sizes.items()}
    later = {"steps": train.steps, "tokens": train.tokens, "direction": train.direction}
    if plan.decay is not None:
        fields[WITH] = DECAY
    elif train.weight_decay and tells_decay(train.program.command):
        fields["weight_decay"] = train.weight_decay
    return fields | {name: value for name, value in later.items() if value != UNSET[name]}


def identity(plan: Plan, corpus: Corpus | None) -> Identity:
    """The study's whole identity.

    Args:
        plan: the study's.
        corpus: its text; None of a program, which reads its own.
    """
    if corpus is None:
        return Identity(identity_fields(plan))
    fields = {**identity_fields(plan), "data_source": corpus.source}
    return Identity({**fields, "data_fingerprint": corpus.fingerprint})


def study_directory(plan: Plan, name: str) -> Path:
    """Where the study's corpus and checkpoints lie: beside an SQLite database.

    Raises:
        SweepError: the name cannot be a folder's.
    """
    plain = name == Path(name).name and name.isprintable() and not name.startswith(".")
    if not name or not plain or len(os.fsencode(name)) > LONGEST_NAME:
        raise SweepError(
            f"study name {shown(name)} cannot be a folder's name: take at most {LONGEST_NAME} "
            "bytes (a letter outside ASCII has two or more), no slashes, and no dot in front"
        )
    database = sqlite_path(plan.config.study.storage)
    parent = database.parent if database is not None else Path()
    return (parent / plan.config.study.directory / name).absolute()


def _parameters(train: TrainConfig, vocabulary_size: int) -> int:
    try:
        return count_parameters(train.model, vocabulary_size)
    except (TrainerError, MemoryError):
        raise
    except Exception as error:  # a user's own factory may raise anything
        line = (str(error).splitlines() or ["no message"])[0]
        raise SweepError(
            f"model {train.model.name} cannot be built: {type(error).__name__}: {line}"
        ) from error


def _check_search(study: StudySettings, low: float, high: float, objective: Objective) -> None:
    """Fails now where the ledger would fail later, with a study made and nothing in it."""
    sampler = named_sampler(study.sampler)
    make_sampler(sampler, Terms(low, high), seed=0, startup=study.startup)
    parse_until(study.until)
    EXECUTORS.check(study.executor)
    make_pruner(study.pruner, floor=1, startup=study.startup)
    import_object(study.trainer, what="trainer")
    check_metric(objective, study.trainer)


def _reference(config: SweepConfig) -> Reference:
    given = config.reference
    if not WIDE.low <= given.learning_rate <= WIDE.high:
        raise SweepError(
            f"reference.learning_rate must be from {WIDE.low:g} to {WIDE.high:g}, got "
            f"{given.learning_rate:g}"
        )
    return Reference(
        setting=Setting(batch_size=given.batch_size, parameters=given.parameters),
        learning_rate=given.learning_rate,
        perplexity=given.perplexity or None,
        swept=given.swept,
        precision=given.precision,
        model=given.model,
        data=given.data,
        epochs=given.epochs,
    )


def _borrowed(reference: Reference, config: SweepConfig, corpus: Corpus | None) -> str:
    train = config.trainer
    fell_back = corpus is not None and corpus.source == train.data.fallback
    data = train.data.fallback if fell_back else train.data.name
    if train.program.command:
        return ""
    pairs = (
        ("model", reference.model, train.model.name),
        ("data", reference.data and plain_name(reference.data), plain_name(data)),
        ("tokenizer", config.reference.tokenizer, train.data.tokenizer),
        ("epochs", reference.epochs, train.epochs or budget_words(train)),
    )
    differences = [f"{what} {there}, not {here}" for what, there, here in pairs if there != here]
    return "borrowed: it was measured with " + " and ".join(differences) if differences else ""


def _rules(config: SweepConfig) -> tuple[Rule, ...]:
    own = tuple(_own_rule(rule) for rule in config.rules)
    names = [FORECAST, *(rule.name for rule in (*RULES, *own))]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise SweepError(f"rules: the name '{repeated[0]}' is taken twice: rename one")
    return (*RULES, *own)


def _own_rule(given: RuleSettings) -> Rule:
    if given.batch_exponent is not None and given.parameter_exponent is not None:
        exponents = given.batch_exponent, given.parameter_exponent
        return ScalingRule(given.name, *exponents, given.source)
    found: Any = import_object(given.function, what=f"rule '{given.name}'", fits=_is_rule)
    own = given.source if "source" in given.model_fields_set else given.function
    return FunctionRule(
        given.name,
        getattr(found, "learning_rate", found),
        formula=str(getattr(found, "formula", given.function)),
        source=str(getattr(found, "source", own)),
    )


def _is_rule(found: object) -> bool:
    return callable(getattr(found, "learning_rate", found))


def _short(name: str) -> str:
    kept = "".join(char if char.isalnum() or char in "._" else "_" for char in name)
    return kept.strip("._") or "data"


def _cut(name: str) -> str:
    return os.fsencode(name)[:LONGEST_PART].decode(errors="ignore")
