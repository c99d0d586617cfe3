"""What is known of how a study's trials are trained, where the trainer is the shared one."""

from studies.objective import Objective
from sweep.execution.protocol import SHARED_TRAINER
from sweep.results.record import StudyRecord
from trainers.config import TrainConfig
from trainers.length import Length

ADAMS = ("adam", "adamw")
"""The optimizers that Adam's beta and epsilon are of, and no others."""


def baseline_of(
    trainer: str, unigram_perplexity: float | None, objective: Objective
) -> float | None:
    """What a model reaches that knows no context: the text's unigram perplexity.

    None for a trainer of the user's own, of whatever text, and where the study's number cannot be
    told from a perplexity.

    Args:
        trainer: its import path.
        unigram_perplexity: of the study's text.
        objective: what it is told as.
    """
    return objective.of_perplexity(unigram_perplexity) if trainer == SHARED_TRAINER else None


def stored_baseline(record: StudyRecord) -> float | None:
    """What a model without context reaches, by what a study has stored."""
    return baseline_of(record.trainer, record.unigram_perplexity, record.objective)


def at_constant_rate(trainer: str, train: TrainConfig) -> bool:
    """Whether the rate is the same from the first step to the last, as in what was measured.

    Of a trainer of the user's own nothing is known. A warm-up leaves runs short of time, so that
    they still fall fast at their ends whatever their rate. "wsd" is no constant rate either, though
    its rate stays for most of a run: what a short run is compared with is the end of a whole one,
    which is after the decay, where every run falls fast and a high rate's noise is gone. The
    numbers of a decay are taken for it; none were measured on it.

    Args:
        trainer: its import path.
        train: what it is told.
    """
    return (
        trainer == SHARED_TRAINER
        and train.lr_schedule.name == "constant"
        and train.lr_schedule.warmup_share == 0
    )


def warmup_share(train: TrainConfig, steps_per_epoch: int | None, steps: int | None) -> float:
    """The share of a run that its warm-up takes; before its end runs cannot be compared.

    Args:
        train: what the trainer is told.
        steps_per_epoch, steps: of the whole run; None where they are unknown.
    """
    schedule = train.lr_schedule
    if not steps_per_epoch or not steps:
        return schedule.warmup_share
    horizon = Length(steps, steps_per_epoch, steps).horizon(schedule)
    return (schedule.warmup_steps or schedule.warmup_share * horizon) / steps


def optimizer_words(train: TrainConfig, *, searched: bool = False) -> str:
    """The optimizer and its decay, for a person.

    "" where it is Adam without one, as by default, and of a program, which is told neither.

    Args:
        train: a study's configuration.
        searched: whether its decay is each trial's own.
    """
    decay, words = train.weight_decay, [train.optimizer]
    if train.program.command:
        return ""
    if train.optimizer == "adam" and not decay and not train.optimizer_options:
        return ""
    words += [f"{name} {value}" for name, value in train.optimizer_options.items()]
    if train.optimizer == "muon":
        words.append(f"AdamW's rate {train.muon_ratio:g} times Muon's")
    if decay:
        which = "all parameters" if train.decayed == "all" else train.decayed
        words.append(f"weight decay {'as searched' if searched else f'{decay:g}'} of {which}")
    return ", ".join(words)


def schedule_words(train: TrainConfig) -> str:
    """The rate's course, for a person.

    "" where it is constant without a warm-up, as by default, and of a program.
    """
    schedule = train.lr_schedule
    if train.program.command:
        return ""
    share, words = schedule.warmup_share, [str(schedule.name)]
    if schedule.name == "wsd":
        words.append(f"a linear decay over the last {schedule.decay_share:.3g} of the steps")
    if schedule.name != "constant":
        words.append(f"down to {schedule.floor:.3g} of the rate" if schedule.floor else "to zero")
    if schedule.horizon_epochs and schedule.counts_horizon:
        words.append(f"counted over {schedule.horizon_epochs} epochs")
    if schedule.horizon_steps and schedule.counts_horizon:
        words.append(f"counted over {schedule.horizon_steps:,} steps")
    if share or schedule.warmup_steps:
        warmup = f"{share:.3g} of the steps" if share else f"{schedule.warmup_steps} steps"
        words.append(f"after {warmup} of linear warm-up")
    return ", ".join(words) if words != ["constant"] else ""
