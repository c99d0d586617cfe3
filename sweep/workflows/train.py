"""`sweep train`: one configuration through the shared trainer, with the sweep's own view."""

import dataclasses
import math
import shutil
from pathlib import Path

from studies.objective import Objective
from sweep.config.load import check_one_length
from sweep.errors import SweepError
from sweep.execution.protocol import Ended, Progressed, Reported, TrialSpec
from sweep.execution.signals import StopSignals
from sweep.execution.worker import consume
from sweep.orchestration.listener import View
from sweep.orchestration.prepare import check_length, emptied_on_refusal, show_notes
from sweep.results.export import Exported
from sweep.results.objective import reported
from sweep.results.types import TrialRow, counted
from sweep.workflows.foreign_code import foreign_code, naming
from trainers import checkpoint
from trainers.checkpoint import BEST, LAST, PREVIOUS
from trainers.config import TrainConfig
from trainers.data import Corpus, load_corpus, take_corpus
from trainers.length import budget_words, length_on
from trainers.report import Outcome, Report, Verdict


def check_code(exported: Exported, *, allowed: set[str]) -> None:
    """Refuses a file that names code which the user did not name as well.

    Args:
        exported: perhaps a stranger's.
        allowed: import paths on the command line or in the user's own sweep.toml.

    Raises:
        SweepError: the file would run other code.
    """
    found = foreign_code(exported.train, exported.trainer, allowed=allowed)
    if found:
        raise SweepError(
            f"the file names code, '{found[1]}', which is run only where you name it too: "
            f"add {naming(found)} if you trust it"
        )


def prepare(exported: Exported, directory: Path, view: View, *, resume: bool) -> None:
    """Lays the study's text, and for a resume its checkpoint, into the training's folder.

    Raises:
        SweepError: the folder holds a training and `resume` is off, or there is nothing to resume.
        TrainerError: the warm-up is longer than the run.
    """
    with emptied_on_refusal(directory):
        _prepare(exported, directory, view, resume=resume)


def _prepare(exported: Exported, directory: Path, view: View, *, resume: bool) -> None:
    _make_folder(directory)
    if exported.train.program.command:
        return
    trial = Path(exported.origin.directory)
    if not resume and any((directory / name).exists() for name in (LAST, PREVIOUS, BEST)):
        raise SweepError(
            f"{directory} holds a training already: --resume goes on with it, "
            "--directory takes another folder"
        )
    take_corpus(trial.parent, directory)
    corpus = load_corpus(exported.train.data, directory)
    show_notes(corpus, view)
    check_length(exported.train, corpus)
    if corpus.fingerprint != exported.origin.data_fingerprint:
        view.warn("the text is not the study's own any more: values do not compare exactly")
    if resume and not (directory / LAST).exists():
        _take_checkpoint(trial, directory)
    if resume:
        _refuse_shorter(exported.train, corpus, directory)


def _make_folder(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise SweepError(
            f"--directory {directory} is a file, or lies in one: name a folder for the checkpoints"
        ) from None


def _refuse_shorter(train: TrainConfig, corpus: Corpus, directory: Path) -> None:
    state = checkpoint.latest(directory)
    if state is None:
        return
    length = length_on(train, corpus.train)
    per_epoch = length.per_epoch
    # Earlier versions wrote a checkpoint an epoch, and no steps.
    done = state.get("step", len(state.get("history", ())) * per_epoch)
    if done > length.steps:
        raise SweepError(
            f"{directory} holds {done:,} steps already ({done / per_epoch:.4g} epochs), more than "
            f"the {budget_words(train)} asked for: ask for more, or take another --directory"
        )


def _take_checkpoint(trial: Path, directory: Path) -> None:
    if not (trial / LAST).is_file():
        raise SweepError(
            f"there is nothing to resume: no {LAST} in {directory}, nor in the trial's {trial}, of "
            'which a finished study keeps the best trial\'s alone unless study.keep is "all"'
        )
    for name in (LAST, PREVIOUS, BEST):
        if (trial / name).is_file():
            shutil.copyfile(trial / name, directory / name)


def train(exported: Exported, directory: Path, device: str, view: View) -> Ended:
    """Trains to the end, or until Ctrl-C; shows every epoch.

    Args:
        exported: the configuration, `prepare`d in `directory`.
        directory: for checkpoints.
        device: "cpu", "cuda:0".
        view: entered already.
    """
    config = exported.train
    spec = TrialSpec(exported.origin.trial, config, directory, trainer=exported.trainer)
    row = _row(exported, "running")
    view.trial_started(row)
    values: dict[int, float] = {}
    with StopSignals() as stop:
        training = consume(spec, device)
        event = next(training)
        while not isinstance(event, Ended):
            if isinstance(event, Progressed):
                view.progressed(spec.number, event.progress)
            elif isinstance(event, Reported):
                value = reported(exported.objective, event.report)
                row = _with(row, event.report, value, exported.objective)
                values[counted(event.report, exported.origin.unit)] = value
                view.reported(spec.number, event.report, row)
            event = training.send(Verdict.PAUSE if stop.received else Verdict.CONTINUE)
    state = "complete" if event.outcome in (Outcome.COMPLETED, Outcome.EARLY_STOPPED) else "failed"
    state = "running" if event.outcome is Outcome.PAUSED else state
    view.trial_ended(dataclasses.replace(row, state=state, reason=event.message))
    view.note(beside_the_sweep(exported, values))
    return event


def beside_the_sweep(exported: Exported, values: dict[int, float]) -> str:
    """Whether the sweep's value was met again."""
    origin, objective = exported.origin, exported.objective
    place, expected = origin.place, origin.value
    where = f"{origin.unit} {place}"
    if place not in values:
        return f"the sweep's {objective.described(expected)} was reached at {where}: not run here"
    found = values[place]
    if math.isclose(found, expected, rel_tol=1e-3):
        met = "met again"
    elif exported.train.lr_schedule.name != "constant" and max(values) > place:
        met = "another run, whose rate decays later"
    elif exported.origin.cohort > 1:
        met = (
            f"NOT met, but it trained {exported.origin.cohort} side by side, which rounds otherwise"
        )
    else:
        met = "NOT met"
    return (
        f"{where} gave {objective.described(found)}, the sweep {objective.format(expected)}: {met}"
    )


def with_length(
    exported: Exported, *, epochs: int | None, steps: int | None = None, tokens: int | None = None
) -> Exported:
    """The same configuration over another number of epochs, steps or tokens.

    More epochs leave a warm-up by share as long as it was, so that they go on with the run.

    Raises:
        SweepError: more than one of them is given.
    """
    given = {"epochs": epochs, "steps": steps, "tokens": tokens}
    check_one_length(given)
    if not any(given.values()):
        return exported
    train: TrainConfig = dataclasses.replace(
        exported.train, epochs=epochs or 0, steps=steps or 0, tokens=tokens or 0
    )
    schedule, before = train.lr_schedule, exported.train
    by_share = schedule.name == "constant" and schedule.warmup_share > 0
    if by_share and not schedule.horizon_epochs and not schedule.horizon_steps:
        if (epochs or 0) > before.epochs > 0:
            schedule = dataclasses.replace(schedule, horizon_epochs=before.epochs)
        if (steps or 0) > before.steps > 0:
            schedule = dataclasses.replace(schedule, horizon_steps=before.steps)
        train = dataclasses.replace(train, lr_schedule=schedule)
    return exported.model_copy(update={"train": train})


def _row(exported: Exported, state: str) -> TrialRow:
    return TrialRow(
        number=exported.origin.trial,
        state=state,
        learning_rate=exported.train.learning_rate,
        rule="",
        multiple=float("nan"),
        value=None,
        step=0,
        reason="",
        objective=exported.objective,
    )


def _with(row: TrialRow, report: Report, value: float, objective: Objective) -> TrialRow:
    best = objective.better(value, row.value)
    return dataclasses.replace(row, value=best, step=report.step, steps=report.steps)
