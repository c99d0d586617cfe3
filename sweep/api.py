"""A sweep from Python: of a function that takes a learning rate and yields losses.

from sweep import Sweep

found = Sweep(batch_size=2048, objective=train).run()
found.optimum.learning_rate, found.best, found.to_frame()
"""

import dataclasses
import hashlib
import inspect
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.study import Study

from sweep.config.devices import cuda_found
from sweep.config.load import load
from sweep.errors import SweepError
from sweep.execution.executors.inline import InlineExecutor
from sweep.execution.protocol import Executor, Resources
from sweep.orchestration.session import run_study
from sweep.results.belief import belief, terms_of
from sweep.results.lookup import open_study
from sweep.results.record import read_study
from sweep.results.report import build
from sweep.results.types import RatePosterior, TrialRow
from sweep.view import make_view
from sweep.view.report.charts import charts
from sweep.view.report.charts_matplotlib import svg
from sweep.view.report.sections import sections
from sweep.view.report.to_html import section_html
from sweep.view.report.to_text import print_report
from trainers.config import ProgramConfig, TrainConfig
from trainers.program import TRAINER
from trainers.program.reports import has_metric, make_report
from trainers.report import Ending, Outcome, Report, Verdict
from trainers.train import Training

Objective = Callable[..., Any]
"""Takes a learning rate; yields losses, or returns one. A loss may also be a (step, loss), or
a mapping of a report's fields."""

TOLD = (
    "weight_decay",
    "batch_size",
    "precision",
    "seed",
    "epochs",
    "steps",
    "tokens",
    "directory",
    "device",
)


class Sweep:
    """Searches the learning rate of a function, as `sweep run` does that of a program.

    A study of the same function and settings goes on; a changed function is another one. Ctrl-C
    pauses it.

    Args:
        batch_size: in sequences; None takes the settings'.
        objective: the function. Where it has parameters of these names it is also given batch_size,
            precision, seed, epochs, steps, tokens, directory and device, and weight_decay where
            that is searched too (settings={"study.with": "weight_decay"}).
        learning_rate: one that is known to be good, and where: the rules start from it.
        reference_batch_size: its batch size.
        trials: at most.
        metric: what it yields: "validation_loss" (nats), "perplexity", "bits_per_byte", or any
            number by its name.
        direction: "minimize" or "maximize".
        storage: the database.
        settings: any further ones by their keys in sweep.toml, such as {"study.until": ""}.

    Raises:
        SweepError, TrainerError: a setting is wrong; the message says which.
    """

    def __init__(
        self,
        batch_size: int | None = None,
        *,
        objective: Objective,
        learning_rate: float | None = None,
        reference_batch_size: int | None = None,
        trials: int | None = None,
        metric: str | None = None,
        direction: str | None = None,
        storage: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if not callable(objective):
            raise SweepError(f"objective must be a function of a learning rate, got {objective!r}")
        flags = {
            "trainer.batch_size": batch_size,
            "reference.learning_rate": learning_rate,
            "reference.batch_size": reference_batch_size,
            "study.trials": trials,
            "trainer.metric": metric,
            "trainer.direction": direction,
            "study.storage": storage,
            **(settings or {}),
        }
        config = load(None, profile="program", cuda=cuda_found(), flags=flags)
        if config.study.with_ and "weight_decay" not in inspect.signature(objective).parameters:
            raise SweepError("study.with is weight_decay, and the objective takes no weight_decay")
        # Its name and its text stand for a program's command: they make the study.
        code = _source(objective)
        name = getattr(objective, "__qualname__", type(objective).__name__)
        command = (name, hashlib.sha256(code.encode()).hexdigest()[:12])
        train = dataclasses.replace(config.trainer, program=ProgramConfig(command=command))
        study = config.study.model_copy(update={"trainer": TRAINER})
        self.config = config.model_copy(update={"trainer": train, "study": study})
        self.objective = objective

    def run(self, view: str = "auto") -> "SweepResult":
        """Searches until too little is left to gain, or all trials are done.

        Args:
            view: "auto", "plain", "json", or "none" for silence.

        Returns:
            What was found; also of a sweep that was interrupted, and goes on with the next call.

        Raises:
            SweepError, TrainerError, StudyError: one line that says what is wrong.
        """
        stream = io.StringIO() if view == "none" else sys.stdout
        name = "plain" if view == "none" else view
        study = self.config.study
        with make_view(json_lines=False, stream=stream, name=name) as shown:
            run_study(
                self.config,
                shown,
                resume_command="Sweep(...).run()",
                before_release=self._remember,
                make=self._executor,
            )
        return SweepResult(self._study, str(study.storage))

    def _remember(self, study: Study) -> None:
        self._study = study.study_name

    def _executor(self, resources: Resources) -> Executor:
        return InlineExecutor(resources.devices[0], _as_trainer(self.objective))


class SweepResult:
    """What a sweep has found; notebooks show it as a picture and the answer in words.

    Args:
        name: the study's.
        storage: its database.
    """

    def __init__(self, name: str, storage: str) -> None:
        self.name, self.storage = name, storage
        self.study = open_study(storage, name)
        self._report = build(self.study, storage)

    @property
    def best(self) -> TrialRow | None:
        """The trial to go on with: its rate is expected to cost least at a new seed."""
        return self._report.study.chosen

    @property
    def optimum(self) -> RatePosterior | None:
        """Where the best rate lies, with its 90 % interval; None before a trial is complete."""
        terms = terms_of(read_study(self.study))
        return belief(self.study.get_trials(deepcopy=False), terms)

    def to_frame(self) -> pd.DataFrame:
        """The trials, one a row, with the columns of `TrialRow`."""
        fields = [field.name for field in dataclasses.fields(TrialRow) if field.name != "objective"]
        rows = [{name: getattr(row, name) for name in fields} for row in self._report.study.trials]
        return pd.DataFrame(rows, columns=fields).set_index("number")

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        print_report(self._report, Console(file=text, width=100))
        return text.getvalue()

    def __repr__(self) -> str:
        best = self.best
        found = f"learning rate {best.learning_rate:.3g}" if best else "nothing yet"
        return f"<SweepResult of {self.name}: {found}>"

    def _repr_html_(self) -> str:
        answer = section_html(sections(self._report)[0])
        pictures = charts(self._report)[:1]
        return answer + "".join(svg(chart) for chart in pictures)


def _as_trainer(objective: Objective) -> Callable[..., Training]:
    """A function as a trainer's generator."""

    def train(config: TrainConfig, *, device: str, directory: Path) -> Training:
        told = {name: getattr(config, name, None) for name in TOLD}
        if not config.weight_decay:  # it is not searched: the function keeps its own
            del told["weight_decay"]
        told |= {"device": device, "directory": directory}
        names = inspect.signature(objective).parameters
        directory.mkdir(parents=True, exist_ok=True)
        said = objective(config.learning_rate, **{n: v for n, v in told.items() if n in names})
        reports = _reports(said, config)
        for report in reports:
            verdict = yield report
            if verdict in (Verdict.PRUNE, Verdict.PAUSE):
                reports.close()
                ended = Outcome.PRUNED if verdict is Verdict.PRUNE else Outcome.PAUSED
                return Ending(ended)
        return Ending(Outcome.COMPLETED)

    return train


def _reports(said: Any, config: TrainConfig) -> "_Reports":
    many = said if isinstance(said, Iterable) and not isinstance(said, Mapping | tuple) else [said]
    return _Reports(many, config)


class _Reports(Iterator[Report]):
    """What a function yields, as reports; closing it closes the function."""

    def __init__(self, said: Iterable[Any], config: TrainConfig) -> None:
        self._said, self._iterator, self._config = said, iter(said), config
        self._step = 0

    def __next__(self) -> Report:
        each = next(self._iterator)
        self._step += 1
        if isinstance(each, Report):
            return each
        metric = self._config.metric
        fields: dict[str, Any] = {"step": self._step, "steps": self._config.steps}
        if isinstance(each, Mapping):
            fields |= each
        elif isinstance(each, tuple):
            fields |= {"step": each[0], metric: each[1]}
        else:
            fields[metric] = each
        plain = {name: _plain(value) for name, value in fields.items()}
        report = make_report(plain, metric)
        if not has_metric(report, metric):
            raise SweepError(f"the objective yielded {sorted(plain)}, and no {metric}")
        self._step = report.step
        return report

    def close(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


def _plain(value: Any) -> Any:
    """A tensor or array of one element as a number."""
    return value.item() if hasattr(value, "item") else value


def _source(objective: Objective) -> str:
    try:
        return inspect.getsource(objective)
    except (OSError, TypeError):  # typed at a prompt, or no function of Python's
        code = getattr(objective, "__code__", None)
        return repr(code and (code.co_code, code.co_consts, code.co_names))
