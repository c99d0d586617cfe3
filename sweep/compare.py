"""`sweep compare`: the same rates and seeds in several precisions, paired."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import optuna
from optuna.study import Study
from optuna.trial import TrialState

from studies.definition import WIDE
from studies.student import Mean, mean_of
from studies.trials import rate_of
from sweep.config import SweepConfig
from sweep.errors import SweepError
from sweep.fixed import Run, run_settings, with_study, with_trainer
from sweep.plan import identity_fields, make_plan
from sweep.reading import study_names
from sweep.storage import check_storage, open_storage
from sweep.view import View
from trainers.config import PrecisionName

LEVEL = 0.9
AROUND = (0.25, 0.5, 1.0, 2.0, 4.0)  # multiples of the best rate of a search
NEAR = 1.3  # a complete trial within this factor stands for such a multiple
FREE = frozenset({"precision", "seed", "data_source", "data_fingerprint"})


@dataclass(frozen=True, slots=True)
class Pair:
    """One rate and seed in two precisions.

    Attributes:
        gap: ln(perplexity / the baseline's perplexity); None where either has none.
    """

    baseline: Run
    other: Run

    @property
    def gap(self) -> float | None:
        """See above."""
        if self.baseline.state != "complete" or self.other.state != "complete":
            return None
        assert self.baseline.perplexity is not None
        assert self.other.perplexity is not None
        return math.log(self.other.perplexity / self.baseline.perplexity)


@dataclass(frozen=True, slots=True)
class Contrast:
    """A precision against the first one.

    Attributes:
        gap: ln of the ratio of perplexities over all pairs, with its interval of level `LEVEL`;
            None where no pair has one.
    """

    baseline: str
    precision: str
    pairs: tuple[Pair, ...]
    gap: Mean | None

    def speed_ratio(self) -> Mean | None:
        """ln of the ratio of tokens a second over all pairs; other programs' load counts in it."""
        ratios = [
            math.log(pair.other.tokens_per_second / pair.baseline.tokens_per_second)
            for pair in self.pairs
            if pair.other.tokens_per_second and pair.baseline.tokens_per_second
        ]
        return mean_of(ratios, LEVEL) if ratios else None

    def diverged_only(self, *, other: bool) -> list[Run]:
        """The runs that diverged in one precision, and not in the other at their rate and seed."""
        turned = [(p.other, p.baseline) if other else (p.baseline, p.other) for p in self.pairs]
        return [one for one, two in turned if (one.state, two.state) == ("diverged", "complete")]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that was compared.

    Attributes:
        device: where the runs that were missing ran.
    """

    precisions: tuple[str, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    device: str
    runs: tuple[Run, ...]
    contrasts: tuple[Contrast, ...]


def compare(
    config: SweepConfig,
    precisions: Sequence[PrecisionName],
    rates: Sequence[float],
    seeds: int,
    view: View,
    *,
    again: str,
) -> Comparison | None:
    """Trains what is missing, one run after another: speed and memory are compared too.

    Args:
        config: the setting; its seed is the first one.
        precisions: the first is the one that the others are compared with.
        rates: learning rates.
        seeds: how many, one after another.
        view: entered already.
        again: the command that goes on, shown where it was stopped.

    Returns:
        The comparison, None where it was paused.
    """
    alone = with_study(config, cohort=1, workers=1)
    numbers = [config.trainer.seed + offset for offset in range(seeds)]
    settings = [
        (with_trainer(alone, seed=seed, precision=precision), rates)
        for seed in numbers
        for precision in precisions
    ]
    runs = run_settings(settings, view, again=again)
    if runs is None:
        return None
    found = list(chain.from_iterable(runs))
    return Comparison(
        precisions=tuple(precisions),
        rates=tuple(rates),
        seeds=tuple(numbers),
        device=config.device,
        runs=tuple(found),
        contrasts=tuple(contrast(found, precisions[0], other) for other in precisions[1:]),
    )


def contrast(runs: Sequence[Run], baseline: str, precision: str) -> Contrast:
    """Pairs the runs of two precisions by rate and seed."""
    pairs = [
        Pair(mine, theirs)
        for mine in runs
        for theirs in runs
        if (mine.precision, theirs.precision, mine.seed) == (baseline, precision, theirs.seed)
        and theirs.has(mine.learning_rate)
    ]
    gaps = [pair.gap for pair in pairs if pair.gap is not None]
    return Contrast(baseline, precision, tuple(pairs), mean_of(gaps, LEVEL) if gaps else None)


def default_rates(config: SweepConfig, study: Study | None) -> tuple[list[float], str]:
    """The rates around the best of a search in this setting, else the rules' own.

    Args:
        config: the setting.
        study: whose best to take; None looks for the last search that differs in precision and
            seed alone.

    Returns:
        The rates, and where they are from.
    """
    plan = make_plan(config)
    study = study or _search(config)
    tried = _complete(study) if study else {}
    if not study or not tried:
        return [centre.learning_rate for centre in plan.first], "the rules' own rates"
    best = min(tried, key=lambda rate: tried[rate])
    wanted = [best * factor for factor in AROUND]
    rates = [_stored_near(rate, tried) for rate in wanted if WIDE.low <= rate <= WIDE.high]
    return list(dict.fromkeys(rates)), f"around the best rate of {study.study_name}"


def _search(config: SweepConfig) -> Study | None:
    path = check_storage(config.study.storage, create=True)
    if path is not None and not path.exists():
        return None
    storage = open_storage(config.study.storage, create=True)
    mine = _bound(identity_fields(make_plan(config)))
    for name in reversed(study_names(storage)):
        study = optuna.load_study(study_name=name, storage=storage)
        if _bound(study.user_attrs["identity"]) == mine and _complete(study):
            return study
    return None


def _bound(identity: Mapping[str, object]) -> dict[str, object]:
    """What two studies must share for a comparison of precisions."""
    return {name: value for name, value in identity.items() if name not in FREE}


def _complete(study: Study) -> dict[float, float]:
    """Perplexities by rate of the trials that were trained whole."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return {
        rate: trial.value
        for trial in trials
        if (rate := rate_of(trial)) and trial.value and not trial.user_attrs.get("by_hand")
    }


def _stored_near(rate: float, tried: dict[float, float]) -> float:
    nearest = min(tried, key=lambda other: abs(math.log(other / rate)))
    return nearest if abs(math.log(nearest / rate)) <= math.log(NEAR) else float(f"{rate:.3g}")


def check_precisions(precisions: Sequence[str]) -> None:
    """Refuses to compare a precision with nothing, or with itself.

    Raises:
        SweepError: fewer than two, or one twice.
    """
    if len(set(precisions)) < 2 or len(set(precisions)) < len(precisions):
        raise SweepError(
            "--precision takes at least two different ones to compare, such as fp32,fp16, got "
            f"{','.join(precisions)}"
        )
