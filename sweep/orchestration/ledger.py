"""The ONLY writer of a study: asks for trials, stores reports, judges them, tells endings."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState

from studies.decay import DECAY, WIDE_DECAY
from studies.definition import PARAMETER, WIDE, Identity
from studies.table import Table
from studies.trials import LOOKED, PAUSED, STEPS, is_paused
from sweep.execution.protocol import TrialSpec
from sweep.orchestration.clock import Clock
from sweep.orchestration.endings import (
    ANEW,
    BLOWN_UP,
    VALUED,
    began_anew,
    checked,
)
from sweep.orchestration.opening import check_total, write_new, write_search
from sweep.orchestration.reports import Reports
from sweep.orchestration.strategy import SearchSettings, Strategy, TrialCounts
from sweep.orchestration.study_trials import OWNER, StudyTrials, deleted, frozen, owner
from sweep.results.belief import belief, terms_of
from sweep.results.lookup import check_identity, find_study
from sweep.results.objective import objective_of
from sweep.results.place import place_of
from sweep.results.record import read_study, read_trial, write_study
from sweep.results.types import RatePosterior, TrialRow
from sweep.storage.cache import TrialCache
from sweep.storage.lease import Lease
from sweep.storage.making import make_study
from sweep.storage.retry import RetryingStorage
from trainers.config import TrainConfig
from trainers.report import Outcome, Report, Verdict

CLOCK_S = 15.0  # how often the time spent is stored


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
        stopped: whether to stop waiting for another orchestrator.

    Attributes:
        directory: where the study's files lie.

    Raises:
        SweepError: another identity, or another orchestrator holds the study.
    """

    def __init__(
        self,
        storage: RetryingStorage,
        name: str,
        *,
        identity: Identity,
        attributes: Mapping[str, Any],
        train: TrainConfig,
        search: SearchSettings,
        directory: Path,
        join: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._storage = storage
        self._train = train
        cache = TrialCache(storage)
        existing = find_study(cache, name)
        if existing is not None:
            check_identity(existing, identity.fields)
        else:
            make_study(storage, name, objective_of(train).stored_name)
        self.study = existing or optuna.load_study(study_name=name, storage=cache)
        self._lease = Lease(self.study, stopped)
        with self._lease.taken(join=join):
            if find_study(cache, name) is None:
                write_new(self.study, identity, attributes, search, directory)
            else:  # perhaps made meanwhile
                check_identity(self.study, identity.fields)
            self._lease.clear_dead()
            if self._lease.others():
                check_total(self.study, search)
            else:
                write_search(self.study, search)
        self.directory = place_of(self.study, directory)  # another run may have made it by now
        record = read_study(self.study)
        self._strategy = Strategy(search, train.seed, terms_of(record))
        self._objective = record.objective
        self._clock = Clock(self.study)
        self._reports = Reports(record)
        self._unrepeatable: dict[int, str] = {}
        self._trials = StudyTrials(self.study, storage)
        ended = (trial for trial in self._trials.all() if trial.state.is_finished())
        self._earlier = frozenset(trial.number for trial in ended)

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        # Where the database is what failed, that is the error to be seen.
        with contextlib.suppress(*(() if kind is None else (Exception,))):
            try:
                self._clock.store()
            finally:
                self._lease.release()

    def finish(self, on: Mapping[str, Any], forecast_met: str) -> None:
        """Marks the study as finished, so that others may start from it.

        Args:
            on: the terms that it was run on (see `notes.stop_criteria`).
            forecast_met: how good what was forecast of it was; "" for no forecast.
        """
        self._end_paused()
        write_study(self.study, forecast_met=forecast_met, finished=dict(on))

    def keep_alive(self) -> None:
        """Stores the time spent now and then; to be called often.

        Raises:
            SweepError: this process was silent, and another one took the study over.
        """
        self._lease.check()
        self._clock.store(every_s=CLOCK_S)

    @property
    def spent_s(self) -> float:
        """Seconds that all runs of the study have taken."""
        return self._clock.spent_s

    @property
    def working_range(self) -> tuple[float, float]:
        """The rates that the sampler draws from now."""
        return read_study(self.study).range

    def cohort(self, asked: int | None, measured: Callable[[], int]) -> int:
        """How many trials run side by side.

        Args:
            asked: what the user wants; None takes what the study has kept.
            measured: decides it for a study that has kept none yet.
        """
        kept = read_study(self.study).cohort
        size = asked or kept or measured()
        if size != kept:
            write_study(self.study, cohort=size)
        return size

    def row(self, number: int) -> TrialRow:
        """A trial as the view shows it."""
        return self._reports.row(self._trials.current(number))

    def belief(self) -> RatePosterior | None:
        """What is known of the best rate; None before a trial is complete."""
        return belief(
            self.study.get_trials(deepcopy=False), self._strategy.terms(self.working_range)
        )

    def unfinished(self) -> list[TrialSpec]:
        """Trials that a run which ended left RUNNING, to be continued from their checkpoints."""
        with self._lease.turn():
            self._lease.clear_dead()
            owners = {*self._lease.others(), self._lease.token}
            left = [trial for trial in self._trials.under_way() if owner(trial) not in owners]
            # A kill between ask and suggest leaves a trial without a rate: it is drawn again.
            self.study.sampler = self._strategy.sampler(self.working_range)
            taken_up = [self._trials.resume(trial.number) for trial in left]
            return [self._spec(trial) for trial in taken_up if not self._trials.refuses(trial)]

    def elsewhere(self) -> int:
        """How many trials other orchestrators run now."""
        others = self._lease.others()
        return sum(owner(trial) in others for trial in self._trials.under_way())

    def ask(self) -> TrialSpec | None:
        """The next trial: first the rules' rates, then the sampler's; None when there is no more.

        That is when all were asked, or when too little is left to gain. A trial that was left after
        a look is the next one where its rate is asked for again.
        """
        with self._lease.turn():
            return self._ask()

    def _ask(self) -> TrialSpec | None:
        trials, within = self._trials.all(), self.working_range
        counts = TrialCounts(trials, self._earlier, self._objective)
        if self._enough(trials, counts):
            return None
        full = counts.count >= self._strategy.settings.trials
        if full or not counts.waits:
            number = self._strategy.resumed(trials, within, full=full)
            if number is not None:
                return self._resume_paused(number)
            if full:
                return None
        for rate in self._strategy.missing(counts):
            self.study.enqueue_trial(self._strategy.enqueued(rate))
        wider = self._strategy.widened(trials, counts, within)
        if wider != within:
            write_study(self.study, range=list(wider))
        self.study.sampler = self._strategy.sampler(wider, trials)
        trial = self.study.ask()
        number = frozen(trial).number
        if number < len(trials) and trials[number].state != TrialState.WAITING:
            raise deleted(self.study)
        return self._ask() if self._trials.refuses(trial) else self._spec(trial)

    def _resume_paused(self, number: int) -> TrialSpec:
        """A trial that was left after a look, as this orchestrator's own."""
        trial = self._trials.resume(number)
        self._trials.note(trial, {PAUSED: "", OWNER: self._lease.token})
        return self._spec(trial)

    def _enough(self, trials: Table, counts: TrialCounts) -> bool:
        """Whether too little is left to gain."""
        found = self._strategy.left_to_gain(trials, counts, self.working_range)
        if found is not None and found.sentence != read_study(self.study).remaining:
            write_study(self.study, remaining=found.sentence)
        return found is not None and found.enough

    def report(self, reports: Mapping[int, Report]) -> dict[int, Verdict]:
        """Stores reports, then judges them in the order of trial numbers.

        A report that is stored already is not written again, and only the last stored one of a
        trial can prune it. A trial whose repeated report has another value than the stored one
        ends here.

        Raises:
            SweepError: a value is impossible, or the trainer does not report it.
        """
        for number, report in sorted(reports.items()):
            self._store(number, report)
        return {number: self._judge(number, report) for number, report in sorted(reports.items())}

    def record_setback(self, again: TrialSpec, message: str) -> None:
        """Stores that a trial is tried again, as `again` says, and why."""
        self._unrepeatable.pop(again.number, None)
        self._trials.release(again.number)  # it goes on, whatever was found before its worker died
        trial = self._trials.resume(again.number)
        setbacks = [*read_trial(frozen(trial)).setbacks, message]
        if again.attempt > len(setbacks):  # otherwise it only went down with another trial
            self._trials.note(trial, {"setbacks": setbacks})
        if again.config.micro_batch != self._train.micro_batch:
            self._trials.note(trial, {"micro_batch": again.config.micro_batch})

    def tell(self, number: int, outcome: Outcome, message: str) -> bool:
        """Stores how a trial ended; a paused one stays running.

        Returns:
            False where another program, such as the dashboard, has ended it already.
        """
        trial = self._trials.stored(number)
        if trial.state.is_finished():
            self._forget(number)
            return False
        fault = self._unrepeatable.get(number)
        if outcome is Outcome.PAUSED and not fault:
            self._leave(number)
            return True
        live = self._trials.resume(number)
        outcome, message = checked(outcome, message, trial)
        if fault:
            outcome, message = Outcome.FAILED, fault
        attributes = {"outcome": outcome.value, **self._reports.measured(number)}
        if fault and not any(map(began_anew, self._trials.at_rate_of(trial))):
            attributes.update({ANEW: True, "reason": f"{message}; it begins anew"})
            message = attributes["reason"]
        if outcome is not Outcome.PRUNED or "reason" not in trial.user_attrs:
            attributes["reason"] = message
        self._trials.note(live, attributes)
        if outcome in BLOWN_UP:
            self._trials.report_infinity(trial)
        if outcome in VALUED:
            self.study.tell(live, min(trial.intermediate_values.values()))
        elif outcome is Outcome.PRUNED or outcome in BLOWN_UP:
            self.study.tell(live, state=TrialState.PRUNED)
        else:
            self.study.tell(live, state=TrialState.FAIL)
        self._forget(number)
        return True

    def _forget(self, number: int) -> None:
        self._trials.release(number)
        self._reports.forget(number)
        self._unrepeatable.pop(number, None)
        self._storage.fold_in()

    def _leave(self, number: int) -> None:
        """Stores that a trial was left after a look, once no worker has it: it may be asked for."""
        live = self._trials.resume(number)
        if is_paused(frozen(live)):
            known = read_trial(frozen(live))
            left = {PAUSED: known.paused, LOOKED: known.looked}
            self._trials.note(live, {**left, **self._reports.measured(number)})
            self._trials.release(number)  # another orchestrator may go on with it

    def _end_paused(self) -> None:
        """What was left after a look, and never asked for again, was pruned."""
        with self._lease.turn():  # another orchestrator may be asking for one, or ending them too
            for trial in filter(is_paused, self._trials.running()):
                live = self._trials.resume(trial.number)
                reason = f"pruned: {read_trial(trial).paused}"
                self._trials.note(live, {"outcome": Outcome.PRUNED.value, "reason": reason})
                self.study.tell(live, state=TrialState.PRUNED)
                self._trials.release(trial.number)

    def _spec(self, trial: Trial) -> TrialSpec:
        # `suggest` on a trial that was taken up again gives its stored rate, or the enqueued one.
        rate = float(trial.suggest_float(PARAMETER, WIDE.low, WIDE.high, log=True))
        decay = self._train.weight_decay
        if self._strategy.settings.decay is not None:
            low, high = WIDE_DECAY.low, WIDE_DECAY.high
            decay = float(trial.suggest_float(DECAY, low, high, log=True))
        known, number = read_trial(frozen(trial)), frozen(trial).number
        new = {} if known.multiples else self._strategy.of_rate(rate)
        self._trials.note(trial, {**new, OWNER: self._lease.token})
        self._trials.hold(trial)
        rows = known.micro_batch or self._train.micro_batch
        return TrialSpec(
            number=number,
            config=dataclasses.replace(
                self._train, learning_rate=rate, weight_decay=decay, micro_batch=rows
            ),
            directory=self.directory / f"{number:04d}",
            attempt=1 + len(known.setbacks),
            trainer=self._strategy.settings.trainer,
            trunks=self._strategy.trunks(rate),
        )

    def _store(self, number: int, report: Report) -> None:
        self._reports.keep(number, report)
        trial = self._trials.resume(number)
        known = frozen(trial)
        if known.state.is_finished():
            return
        place, stored = self._reports.place(report), known.intermediate_values
        value = self._reports.value(number, report)
        if place not in stored:
            steps = self._reports.said_length(report)
            if steps is not None and steps != known.user_attrs.get(STEPS, 0):
                self._trials.note(trial, {STEPS: steps})
            try:
                trial.report(value, place)
            except UpdateFinishedTrialError:  # another program has ended it
                self._trials.release(number)
        elif fault := self._reports.why_not_repeated(report, value, stored[place]):
            self._unrepeatable[number] = fault

    def _judge(self, number: int, report: Report) -> Verdict:
        live = self._trials.resume(number)
        trial = frozen(live)
        if trial.state.is_finished() or number in self._unrepeatable:
            return Verdict.PRUNE  # another program has ended it, or it begins anew
        place = self._reports.place(report)
        # A trial's last report is paid for: there is nothing left to save by pruning it.
        paid = self._reports.is_last(report)
        if place != trial.last_step or (paid and math.isfinite(trial.intermediate_values[place])):
            return Verdict.CONTINUE
        judged = self._strategy.judge(self._trials.peers(), trial, self.working_range)
        if judged.pauses:
            # Stored by `_leave`: as long as a worker has the trial it is no one else's.
            trial.user_attrs.update({PAUSED: judged.reason, LOOKED: place})
            return Verdict.PAUSE
        if judged.reason:
            self._trials.note(live, {"reason": f"pruned: {judged.reason}"})
            return Verdict.PRUNE
        if judged.audit and "audit" not in trial.user_attrs:
            self._trials.note(live, {"audit": judged.audit})
        return Verdict.CONTINUE
