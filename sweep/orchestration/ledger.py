"""The ONLY writer of a study: asks for trials, stores reports, judges them, tells endings."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from studies.definition import PARAMETER, WIDE, Identity, edge, searched, widen
from studies.failures import as_tried
from studies.observed import Terms, posterior_of
from studies.perplexity import is_perplexity
from studies.prior import multiples, nearest_rule
from studies.pruner import make_pruner
from studies.sampler import LEARNING_RATE, make_sampler
from studies.stopping import remaining
from studies.strategy import next_rate
from studies.table import Table
from studies.trials import LOOKED, PAUSED, is_paused
from sweep.errors import SweepError
from sweep.execution.protocol import TrialSpec
from sweep.orchestration.clock import Clock
from sweep.orchestration.enqueued import why_refused
from sweep.orchestration.search import Search
from sweep.orchestration.trial_counts import Tried
from sweep.results.belief import belief, terms_of
from sweep.results.lookup import check_identity, find_study
from sweep.results.rows import trial_row
from sweep.results.types import Belief, TrialRow
from sweep.storage.cache import TrialCache
from sweep.storage.lease import Lease
from sweep.storage.mutex import Mutex
from sweep.storage.retry import PatientStorage
from trainers.config import TrainConfig
from trainers.report import EpochReport, Outcome, Verdict

ROUNDING = 0.01
"""What an epoch's perplexity may differ by when it is trained again: in other company, or on CUDA,
it is not the same to the bit. The stored one stays."""

OWNER = "owner"
"""The trial's attribute with the lease of the orchestrator that runs it."""

READ_EVERY_S = 1.0
"""How late the trials of other orchestrators and programs may be seen when an epoch is judged."""

_VALUED = (Outcome.COMPLETED, Outcome.EARLY_STOPPED)
_BLOWN_UP = (Outcome.DIVERGED, Outcome.OVERFLOW)


class Ledger:
    """A study opened for writing. A context manager that holds the study's lease.

    Args:
        storage: the opened database.
        name: the study's name; created where it does not exist.
        identity: checked against a stored one.
        attributes: what a new study is told about itself (written once).
        train: every trial's configuration but for its learning rate.
        search: how rates are chosen and pruned.
        directory: where the trials' folders go.
        join: whether to work beside other orchestrators, each on its own trials.

    Raises:
        SweepError: another identity, or another orchestrator holds the study.
    """

    def __init__(
        self,
        storage: PatientStorage,
        name: str,
        *,
        identity: Identity,
        attributes: Mapping[str, Any],
        train: TrainConfig,
        search: Search,
        directory: Path,
        join: bool = False,
    ) -> None:
        self._storage = storage
        self._train, self._search, self._directory = train, search, directory
        cache = TrialCache(storage)
        existing = find_study(cache, name)
        if existing is not None:
            check_identity(existing, identity.fields)
        self.study = existing or optuna.create_study(
            study_name=name, storage=cache, direction="minimize", load_if_exists=True
        )
        self._lease = Lease(self.study)
        self._mutex = Mutex(storage, self.study._study_id)
        with self._mutex.held():
            self._lease.take(join=join)
            if self._lease.others():
                self._check_terms()
            else:
                if existing is None:
                    self._found(identity, attributes)
                self._write_terms()
        self._about_terms = terms_of(self.study.user_attrs)
        self._clock = Clock(self.study)
        self._reports: dict[int, dict[int, EpochReport]] = {}
        self._live: dict[int, Trial] = {}  # this orchestrator's own, in step with what it writes
        self._read = Table(())
        self._read_at = -math.inf

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        # Where the database is what failed, that is the error to be seen.
        with contextlib.suppress(*(() if kind is None else (Exception,))):
            self._clock.store()
            self._lease.release()

    def finish(self, on: Mapping[str, Any], forecast_met: str) -> None:
        """Marks the study as finished, so that others may start from it.

        Args:
            on: the terms that it was run on (see `terms`).
            forecast_met: how good what was forecast of it was; "" for no forecast.
        """
        self._end_paused()
        self.study.set_user_attr("forecast_met", forecast_met)
        self.study.set_user_attr("finished", dict(on))

    def keep_alive(self) -> None:
        """Renews the lease; to be called at least every 15 seconds."""
        if self._lease.renew():
            self._clock.store()

    @property
    def spent_s(self) -> float:
        """Seconds that all runs of the study have taken."""
        return self._clock.spent_s

    @property
    def working_range(self) -> tuple[float, float]:
        """The rates that the sampler draws from now."""
        low, high = self.study.user_attrs["range"]
        return low, high

    def cohort(self, asked: int | None, measured: Callable[[], int]) -> int:
        """How many trials run side by side.

        Args:
            asked: what the user wants; None takes what the study has kept.
            measured: decides it for a study that has kept none yet.
        """
        kept: int | None = self.study.user_attrs.get("cohort")
        size = asked or kept or measured()
        if size != kept:
            self.study.set_user_attr("cohort", size)
        return size

    def row(self, number: int) -> TrialRow:
        """A trial as the view shows it."""
        live = self._live.get(number)
        return trial_row(self._trial(number) if live is None else _frozen(live))

    def belief(self) -> Belief | None:
        """What is known of the best rate; None before a trial is complete."""
        return belief(self.study.get_trials(deepcopy=False), self._terms())

    def unfinished(self) -> list[TrialSpec]:
        """Trials that a run which ended left RUNNING, to be continued from their checkpoints."""
        with self._mutex.held():
            owners = {*self._lease.others(), self._lease.token}
            left = [trial for trial in self._under_way() if _owner(trial) not in owners]
            if left:
                self._lease.clear_dead()
            # A kill between ask and suggest leaves a trial without a rate: it is drawn again.
            self._take_sampler(*self.working_range)
            taken_up = [self._taken_up(trial.number) for trial in left]
            return [self._spec(trial) for trial in taken_up if not self._refuses(trial)]

    def elsewhere(self) -> int:
        """How many trials other orchestrators run now."""
        others = self._lease.others()
        return sum(_owner(trial) in others for trial in self._under_way())

    def _running(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _under_way(self) -> list[FrozenTrial]:
        """Those that are running and not left after a look."""
        return [trial for trial in self._running() if not is_paused(trial)]

    def ask(self) -> TrialSpec | None:
        """The next trial: first the rules' rates, then the sampler's; None when there is no more.

        That is when all were asked, or when too little is left to gain. A trial that was left after
        a look is the next one where its rate is asked for again.
        """
        with self._mutex.held():
            return self._ask()

    def _ask(self) -> TrialSpec | None:
        trials = self._trials()
        tried = Tried(trials)
        if self._enough(trials, tried):
            return None
        full = tried.count >= self._search.trials
        if full or not tried.waits:
            resumed = self._resumed(trials, full=full)
            if full or resumed is not None:
                return resumed
        self._enqueue_first(tried)
        low, high = self._widened(trials, tried)
        self._take_sampler(low, high, trials)
        trial = self.study.ask()
        self._read_at = -math.inf
        number = _frozen(trial).number
        if number < len(trials) and trials[number].state != TrialState.WAITING:
            raise _deleted(self.study)
        return self._ask() if self._refuses(trial) else self._spec(trial)

    def _resumed(self, trials: Table, *, full: bool) -> TrialSpec | None:
        """The trial left after a look that is to go on now; None where there is none.

        Args:
            full: whether no other trial may be started.
        """
        terms = self._terms()
        if not terms.pauses or not trials.mask(is_paused).any():
            return None
        _, number = next_rate(as_tried(trials), terms, new=not full)
        if number is None:
            return None
        trial = self._taken_up(number)
        self._note(trial, {PAUSED: "", OWNER: self._lease.token})
        self._read_at = -math.inf
        return self._spec(trial)

    def report(self, reports: Mapping[int, EpochReport]) -> dict[int, Verdict]:
        """Stores epochs, then judges them in the order of trial numbers.

        An epoch that is stored already is not written again, and only the last stored one of a
        trial can prune it.

        Raises:
            SweepError: a repeated epoch has another perplexity than the stored one.
        """
        for number, report in sorted(reports.items()):
            self._store(number, report)
        return {number: self._judge(number, report) for number, report in sorted(reports.items())}

    def set_back(self, again: TrialSpec, message: str) -> None:
        """Stores that a trial is tried again, as `again` says, and why."""
        self._live.pop(again.number, None)  # it goes on, whatever was found before its worker died
        trial = self._taken_up(again.number)
        setbacks = [*trial.user_attrs.get("setbacks", []), message]
        if again.attempt > len(setbacks):  # otherwise it only went down with another trial
            trial.set_user_attr("setbacks", setbacks)
        if again.config.micro_batch != self._train.micro_batch:
            trial.set_user_attr("micro_batch", again.config.micro_batch)

    def tell(self, number: int, outcome: Outcome, message: str) -> bool:
        """Stores how a trial ended; a paused one stays running.

        Returns:
            False where another program, such as the dashboard, has ended it already.
        """
        trial = self._trial(number)
        if trial.state.is_finished():
            self._live.pop(number, None)
            self._reports.pop(number, None)
            return False
        if outcome is Outcome.PAUSED:
            self._leave(number)
            return True
        live = self._taken_up(number)
        outcome, message = _checked(outcome, message, trial)
        attributes = {"outcome": outcome.value, **self._measured(number)}
        if outcome is not Outcome.PRUNED or "reason" not in trial.user_attrs:
            attributes["reason"] = message
        self._note(live, attributes)
        if outcome in _BLOWN_UP:
            self._report_infinity(trial)
        if outcome in _VALUED:
            self.study.tell(live, min(trial.intermediate_values.values()))
        elif outcome is Outcome.PRUNED or outcome in _BLOWN_UP:
            self.study.tell(live, state=TrialState.PRUNED)
        else:
            self.study.tell(live, state=TrialState.FAIL)
        del self._live[number]
        self._reports.pop(number, None)
        self._read_at = -math.inf
        return True

    def _found(self, identity: Identity, attributes: Mapping[str, Any]) -> None:
        low, high = self._search.low, self._search.high
        stored = {**attributes, "range": [low, high], "directory": str(self._directory)}
        stored["identity"] = dict(identity.fields)  # last: a study that has it has all the others
        for key, value in stored.items():
            self.study.set_user_attr(key, value)

    def _leave(self, number: int) -> None:
        """Stores that a trial was left after a look, once no worker has it: it may be asked for."""
        live = self._taken_up(number)
        known = _frozen(live).user_attrs
        if is_paused(_frozen(live)):
            left = {PAUSED: known[PAUSED], LOOKED: known[LOOKED]}
            self._note(live, {**left, **self._measured(number)})
            del self._live[number]  # another orchestrator may go on with it
            self._read_at = -math.inf

    def _end_paused(self) -> None:
        """What was left after a look, and never asked for again, was pruned."""
        with self._mutex.held():  # another orchestrator may be asking for one, or ending them too
            for trial in filter(is_paused, self._running()):
                live = self._taken_up(trial.number)
                reason = f"pruned: {trial.user_attrs[PAUSED]}"
                self._note(live, {"outcome": Outcome.PRUNED.value, "reason": reason})
                self.study.tell(live, state=TrialState.PRUNED)
                del self._live[trial.number]

    def _check_terms(self) -> None:
        """Refuses to join a study that is to be of another size."""
        total = self.study.user_attrs.get("trials")
        if total != self._search.trials:
            self._lease.release()
            raise SweepError(
                f"study '{self.study.study_name}' is run to {total} trials in all, not to "
                f"{self._search.trials}: join it with --trials {total}"
            )

    def _write_terms(self) -> None:
        """What each run may change: how it searches, and the range where the user gave one."""
        search = self._search
        priors = {name: dataclasses.asdict(prior) for name, prior in search.priors.items()}
        terms = {
            "trials": search.trials,
            "sampler": search.sampler,
            "pruner": search.pruner,
            "floor": search.floor,
            "priors": priors,
        }
        for key, value in terms.items():
            self.study.set_user_attr(key, value)
        self.study.set_user_attr("ran", time.time())
        for key in ("remaining", "forecast_met"):
            self.study.set_user_attr(key, "")
        self.study.set_user_attr("finished", {})
        if not self._search.widen:
            self.study.set_user_attr("range", [self._search.low, self._search.high])

    def _enqueue_first(self, tried: Tried) -> None:
        """Enqueues the rules' rates that no good trial has; failed ones once more."""
        for centre in self._search.first:
            kept, failed = tried.at(centre.learning_rate)
            if kept == 0 and failed < 2:
                self.study.enqueue_trial({PARAMETER: centre.learning_rate})

    def _take_sampler(self, low: float, high: float, trials: Table | None = None) -> None:
        """A sampler of the range as it is now; of the trials too, where it is for one ask."""
        self.study.sampler = make_sampler(
            self._search.sampler,
            dataclasses.replace(self._about_terms, low=low, high=high),
            seed=self._train.seed % 2**32,
            startup=len(self._search.first),
            known=trials,
        )

    def _terms(self) -> Terms:
        """What the search is told beside the trials, in the range as it is now."""
        low, high = self.working_range
        return dataclasses.replace(self._about_terms, low=low, high=high)

    def _enough(self, trials: Table, tried: Tried) -> bool:
        """Whether too little is left to gain, once every rule's rate was tried."""
        if self._search.until is None or tried.waits:
            return False
        found = remaining(posterior_of(trials, self._terms()), trials, self._search.until)
        if found.sentence != self.study.user_attrs["remaining"]:
            self.study.set_user_attr("remaining", found.sentence)
        return found.enough

    def _widened(self, trials: Table, tried: Tried) -> tuple[float, float]:
        """The range to search, wider than before where the best rate leans on its edge."""
        low, high = self.working_range
        best, first = tried.best, len(self._search.first)
        if not self._search.widen or best is None or tried.started < first:
            return low, high
        side = edge(best, low, high, tried.ends)
        if not side and self._search.sampler == LEARNING_RATE and not tried.waits:
            leans = posterior_of(trials, self._terms()).edge
            side = leans if leans and searched(leans, low, high, tried.ends) else ""
        wider = widen(low, high, side) if side else (low, high)
        if wider != (low, high):
            self.study.set_user_attr("range", list(wider))
        return wider

    def _refuses(self, trial: Trial) -> bool:
        """Ends a trial that another program enqueued with a rate that none can have."""
        reason = why_refused(_frozen(trial))
        if reason:
            self._note(trial, {"outcome": Outcome.FAILED.value, "reason": reason})
            self.study.tell(trial, state=TrialState.FAIL)
            self._live.pop(trial.number, None)
        return bool(reason)

    def _spec(self, trial: Trial) -> TrialSpec:
        # `suggest` on a trial that was taken up again gives its stored rate, or the enqueued one.
        rate = float(trial.suggest_float(PARAMETER, WIDE.low, WIDE.high, log=True))
        name, multiple = nearest_rule(rate, self._search.rates)
        of_rate = {
            "nearest_rule": name,
            "multiple": multiple,
            "multiples": multiples(rate, self._search.rates),
        }
        new = {} if "multiples" in trial.user_attrs else of_rate
        self._note(trial, {**new, OWNER: self._lease.token})
        known, number = trial.user_attrs, _frozen(trial).number
        self._live[number] = trial
        rows = known.get("micro_batch", self._train.micro_batch)
        return TrialSpec(
            number=number,
            config=dataclasses.replace(self._train, learning_rate=rate, micro_batch=rows),
            directory=self._directory / f"{number:04d}",
            attempt=1 + len(known.get("setbacks", ())),
            trainer=self._search.trainer,
        )

    def _note(self, trial: Trial, attributes: Mapping[str, Any]) -> None:
        """What the trial's `set_user_attr` does, for several in one transaction."""
        self._storage.set_trial_user_attrs(trial._trial_id, attributes)
        _frozen(trial).user_attrs.update(attributes)

    def _taken_up(self, number: int) -> Trial:
        """A trial to be written, whoever began it."""
        if number not in self._live:
            self._live[number] = Trial(self.study, self._trial(number)._trial_id)
        return self._live[number]

    def _trial(self, number: int) -> FrozenTrial:
        """A trial as it is stored, also by other programs."""
        storage, study = self.study._storage, self.study._study_id
        try:
            identifier = storage.get_trial_id_from_study_id_trial_number(study, number)
        except KeyError:
            raise _deleted(self.study) from None
        return storage.get_trial(identifier)

    def _trials(self) -> Table:
        """All of them, as they are stored: a trial's place is its number."""
        trials = Table(self.study.get_trials(deepcopy=False))
        if len(trials) and trials[-1].number != len(trials) - 1:  # they come in their order
            raise _deleted(self.study)
        self._read, self._read_at = trials, time.monotonic()
        return trials

    def _peers(self) -> Table:
        """All of them: this orchestrator's own as they are, any other as of a moment ago."""
        if time.monotonic() - self._read_at > READ_EVERY_S:
            self._trials()
        return self._read.replaced({number: _frozen(live) for number, live in self._live.items()})

    def _store(self, number: int, report: EpochReport) -> None:
        self._reports.setdefault(number, {})[report.epoch] = report
        trial = self._taken_up(number)
        if _frozen(trial).state.is_finished():
            return
        stored = _frozen(trial).intermediate_values
        # A trainer of the user's own may say NaN, which Optuna would make a failure of the trial.
        perplexity = math.inf if math.isnan(report.perplexity) else report.perplexity
        if not is_perplexity(perplexity):
            raise SweepError(
                f"trial {number}, epoch {report.epoch}: the trainer's validation_loss must be nats "
                f"a token, at least 0, got {report.validation_loss:g}"
            )
        if report.epoch not in stored:
            try:
                trial.report(perplexity, report.epoch)
            except UpdateFinishedTrialError:  # another program has ended it
                del self._live[number]
        elif not math.isclose(stored[report.epoch], perplexity, rel_tol=ROUNDING):
            raise SweepError(
                f"trial {number}, epoch {report.epoch}: the trainer now says perplexity "
                f"{perplexity:.9g}, the study has {stored[report.epoch]:.9g}: the checkpoint in "
                f"{self._directory / f'{number:04d}'} is not this study's, or the trainer does "
                "not repeat itself; take another --study"
            )

    def _judge(self, number: int, report: EpochReport) -> Verdict:
        live = self._taken_up(number)
        trial = _frozen(live)
        if trial.state.is_finished():
            return Verdict.PRUNE  # another program has ended it
        # A trial's last epoch is paid for: there is nothing left to save by pruning it.
        paid = report.epoch >= self._train.epochs and math.isfinite(report.perplexity)
        if report.epoch != trial.last_step or paid:
            return Verdict.CONTINUE
        peers, terms = self._peers(), self._terms()
        pruner = make_pruner(
            self._search.pruner,
            floor=max(1, self._search.floor),
            startup=self._search.startup,
            seed=self._train.seed,
            terms=terms,
        )
        reason = pruner.reason(peers, trial)
        if reason and terms.pauses and pruner.looks and math.isfinite(report.perplexity):
            # Stored by `_leave`: as long as a worker has the trial it is no one else's.
            trial.user_attrs.update({PAUSED: reason, LOOKED: report.epoch})
            return Verdict.PAUSE
        if reason:
            live.set_user_attr("reason", f"pruned: {reason}")
            return Verdict.PRUNE
        audit = pruner.audit(peers, trial)
        if audit and "audit" not in trial.user_attrs:
            live.set_user_attr("audit", audit)
        return Verdict.CONTINUE

    def _measured(self, number: int) -> dict[str, Any]:
        # A resumed trial says its stored epochs again, so these are all of them.
        reports = list(self._reports.get(number, {}).values())
        if not reports:
            return {}
        kept = ("train_loss", "accuracy", "tokens_per_second", "peak_memory_bytes", "skipped_steps")
        last = {name: getattr(reports[-1], name) for name in kept}
        seconds = [1 / report.tokens_per_second for report in reports if report.tokens_per_second]
        steps = self.study.user_attrs.get("steps_per_epoch")
        whole_run = {
            "steps": steps and steps * len(reports),
            "skipped_steps": sum(report.skipped_steps for report in reports),
            "peak_memory_bytes": max(report.peak_memory_bytes for report in reports),
            "tokens_per_second": len(seconds) / sum(seconds) if seconds else 0.0,
        }
        limited = {"micro_batch": reports[-1].micro_batch} if reports[-1].micro_batch else {}
        return {**last, **limited, "whole_run": whole_run}

    def _report_infinity(self, trial: FrozenTrial) -> None:
        last = trial.last_step
        if last is None or not math.isinf(trial.intermediate_values[last]):
            self._taken_up(trial.number).report(math.inf, (last or 0) + 1)


def _frozen(trial: Trial) -> FrozenTrial:
    """What a trial is now: Optuna keeps it in step with what is written by it, for itself alone."""
    return trial._cached_frozen_trial


def _owner(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(OWNER, ""))


def _deleted(study: Study) -> SweepError:
    """Of a trial that is gone: Optuna would give its number once more."""
    return SweepError(
        f"a trial of study '{study.study_name}' was deleted from the database by another program, "
        "so its number would be given twice: take another --study. The other trials and all "
        "checkpoints are kept"
    )


def _checked(outcome: Outcome, message: str, trial: FrozenTrial) -> tuple[Outcome, str]:
    """A trainer may call its run complete without anything that could be the trial's value."""
    values = trial.intermediate_values.values()
    if outcome not in _VALUED or any(math.isfinite(value) for value in values):
        return outcome, message
    if values:
        return Outcome.DIVERGED, "diverged: no epoch's perplexity is finite"
    return Outcome.FAILED, "failed: the trainer ended without an epoch's report"
