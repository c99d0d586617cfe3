"""Writes a swept reference into a sweep.toml, comments kept."""

from pathlib import Path

import tomlkit
from tomlkit.exceptions import TOMLKitError

from studies.objective import PERPLEXITY, VALIDATION_LOSS, Objective
from sweep.config.schema import ReferenceSettings
from sweep.errors import SweepError
from sweep.outputs import write_output
from sweep.results.report import Report
from trainers.config import DataConfig

SIGNIFICANT_DIGITS = 3


def measured_reference(report: Report, model: str, data: DataConfig) -> ReferenceSettings:
    """A trial of a finished sweep as a reference: the one that is recommended.

    The best trial itself owes part of its value, and so of its rate, to luck.

    Args:
        report: of the finished study.
        model: the model's name, as sweep.toml has it.
        data: as sweep.toml has it; what was measured on its fallback stands under that one's name.

    Raises:
        SweepError: no trial is complete, none learned more than the words' frequencies, or the
            study's number cannot be told as a perplexity.
    """
    summary = report.study
    trial = summary.chosen
    if trial is None or trial.value is None:
        raise SweepError("no trial is complete, so there is no reference to write")
    check_metric(summary.objective)
    perplexity = summary.objective.to_perplexity(trial.value)
    if summary.baseline is not None and trial.value >= summary.baseline:
        raise SweepError(
            f"{summary.objective.described(trial.value)} is no better than counting words, so "
            "there is no reference to write: train for more epochs, or widen --range"
        )
    return ReferenceSettings(
        # Nothing finer than 20 % of a rate is worth claiming: three digits are plenty.
        learning_rate=float(f"{trial.learning_rate:.{SIGNIFICANT_DIGITS}g}"),
        batch_size=summary.batch_size,
        parameters=summary.parameters,
        precision=summary.precision,
        perplexity=round(perplexity, 2),
        model=model,
        data=data.fallback if summary.data == data.fallback else data.name,
        epochs=summary.epochs,
        swept=True,
        tokenizer=data.tokenizer,
        weight_decay=float(f"{trial.weight_decay or 0.0:.{SIGNIFICANT_DIGITS}g}"),
    )


def check_metric(objective: Objective) -> None:
    """Refuses a metric that does not tell a perplexity, which a reference has.

    Raises:
        SweepError: names the metric.
    """
    if objective.name not in (PERPLEXITY, VALIDATION_LOSS):
        raise SweepError(
            f"a reference has a perplexity, which {objective.name} (--metric) does not tell: "
            "calibrate with --metric perplexity"
        )


def write_reference(path: Path, profile: str, reference: ReferenceSettings) -> None:
    """Sets [profiles.NAME.reference] in a file; a missing file is made with that table alone.

    Raises:
        SweepError: the file cannot be read or written.
    """
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        document = tomlkit.parse(text)
        profiles = document.setdefault("profiles", tomlkit.table(is_super_table=True))
        table = profiles.setdefault(profile, tomlkit.table(is_super_table=not text))
        stored = table.setdefault("reference", tomlkit.table())
        for key, value in reference.model_dump().items():
            if value or key != "weight_decay":  # 0 is not known
                stored[key] = value
    except (OSError, UnicodeDecodeError) as error:
        raise SweepError(f"{path} cannot be read: {error}") from error
    except TOMLKitError as error:
        raise SweepError(f"{path} is not valid TOML: {error}") from error
    write_output(path, tomlkit.dumps(document), force=True)  # all else in it is kept
