"""One trial's state: model, optimizer, precision, schedule and history."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainers import checkpoint
from trainers.config import LATER, TrainConfig, flat
from trainers.data.corpus import NO_SEPARATOR
from trainers.errors import TrainerError
from trainers.kernels.dropout import Place, block_rows
from trainers.length import Length
from trainers.models import build_model, set_packing
from trainers.naming import plain_name
from trainers.optimizers import make_optimizer
from trainers.precision import Precision
from trainers.report import Report
from trainers.schedule import clip_norm, lr_scheduler, same_course
from trainers.seeds import WEIGHTS, repeat_bits, seeded, stream_seed
from trainers.steps.memory import keep_freed_memory, rows_that_fit
from trainers.steps.ranks import ALONE, Ranks
from trainers.stretch import Stretch

_TEXT, _TOKENIZER = "data.name", "data.tokenizer"
_HORIZON = "lr_schedule.horizon_epochs"
_HORIZON_STEPS = "lr_schedule.horizon_steps"
_CHANGE_NO_STEP = ("micro_batch", "metric", "direction", "checkpoint_every", "keep_trunk")
_BUDGET = ("epochs", "steps", "tokens")


class Member:
    """A model in training.

    Args:
        config: the run.
        vocabulary_size: of the corpus.
        length: the run's, for the schedule.
        device: where the model lives.
        text: the corpus's fingerprint: a checkpoint knows its text by it, whatever it is called.
        separator: the number of the token between documents, where windows hold several; else -1.
        ranks: that train it together; each has a member of its own, alike to the bit.
        half: False switches autocast and scaler off, to show that the loops are one.

    Raises:
        TrainerError: the model's or the optimizer's name or options are wrong.
    """

    def __init__(
        self,
        config: TrainConfig,
        vocabulary_size: int,
        length: Length,
        device: torch.device,
        *,
        text: str = "",
        separator: int = NO_SEPARATOR,
        ranks: Ranks = ALONE,
        half: bool = True,
    ) -> None:
        keep_freed_memory()
        # "fp32", and every evaluation, is FP32: cuDNN's recurrences would multiply in TF32.
        torch.backends.cudnn.allow_tf32 = False
        if config.deterministic:
            repeat_bits()
        self.config = config
        self.text = text
        self.device = device
        self.ranks = ranks
        with seeded(stream_seed(config.seed, WEIGHTS), device):
            self.model = build_model(config.model, vocabulary_size).to(device)
        if separator != NO_SEPARATOR:
            set_packing(self.model, config.model, separator, config.data.attend)
        self.precision = Precision(config.precision, device, enabled=half)
        self.optimizer = make_optimizer(config, self.model, vocabulary_size)
        self.scheduler = lr_scheduler(config, self.optimizer, length)
        self.length = length
        self.step = self.trunk = 0
        self.history: list[Report] = []
        self.stretch = Stretch()
        self.rows = self.row_limit = 0
        self.gradient_norm = torch.tensor(math.nan)
        self.limit_rows(config.micro_batch)

    def apply(self) -> None:
        """Take the step that the gradients ask for: unscale, clip, step, update."""
        self.precision.unscale(self.optimizer)
        limit = clip_norm(self.config.clip_schedule, self.step // self.length.per_epoch)
        self.gradient_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self.precision.try_step(self.optimizer)

    def advance(self, *, stepped: bool) -> None:
        """Go on to the next step; the rate moves where the scaler did not skip this one."""
        self.step += 1
        if stepped:
            self.scheduler.step()

    @property
    def place(self) -> Place:
        """Where the next step's dropout is drawn: its seed, epoch and number in that, from 0."""
        epoch, step = divmod(self.step, self.length.per_epoch)
        return self.config.seed, epoch + 1, step

    def rows_that_fit(self, members: int) -> int:
        """Rows of each member's batch that a cohort of so many computes at once."""
        room = rows_that_fit(self.model, self.config.data.window, members)
        rows = min(self._whole_blocks(room), self.ranks.rows(self.config.batch_size))
        return min(rows, self.row_limit) if self.row_limit else rows

    def limit_rows(self, rows: int) -> None:
        """Computes no more rows at once from now on: above a block of masks, whole blocks."""
        self.row_limit = self._whole_blocks(rows)

    def _whole_blocks(self, rows: int) -> int:
        block = block_rows(self.config.data.window)
        return rows // block * block if rows > block else rows

    @property
    def learning_rate(self) -> float:
        """The rate that the next step takes: of "muon", Muon's own."""
        return float(self.optimizer.param_groups[0]["lr"])

    def finite(self) -> bool:
        """Whether every parameter is finite. Costs one synchronisation."""
        # The largest magnitude: unlike a sum of squares, it is finite wherever they all are.
        parameters = [parameter.detach() for parameter in self.model.parameters()]
        return bool(torch.nn.utils.get_total_norm(parameters, math.inf).isfinite())

    def patience_spent(self) -> bool:
        """Whether the perplexity has not improved by `min_delta` for `patience` epochs.

        Before the decay of "wsd" is over it is not asked: what a high rate gains, it gains there.
        """
        schedule = self.config.lr_schedule
        if not self.history:
            return False
        done = self.history[-1].step
        if schedule.name == "wsd" and done < self.length.horizon(schedule):
            return False
        best, best_step = float("inf"), 0
        for report in self.history:
            if report.perplexity < best - self.config.min_delta:
                best, best_step = report.perplexity, report.step
        return done - best_step >= self.config.patience * self.length.per_epoch

    def add_report(self, report: Report, directory: Path) -> None:
        """Adds a report to the history and writes the checkpoint, and `best.pt` where it is."""
        best = min((past.validation_loss for past in self.history), default=float("inf"))
        self.history.append(report)
        self.stretch = Stretch()
        if report.validation_loss < best:
            # Before `last.pt`: a crash between the two only repeats these steps.
            checkpoint.write(directory / checkpoint.BEST, self._weights(report))
        self.save(directory)

    def save(self, directory: Path, name: str = checkpoint.LAST) -> None:
        """Writes the checkpoint, also between two reports; or one that is kept by another name."""
        if name == checkpoint.LAST:
            checkpoint.save(directory, self._state())
        else:
            checkpoint.write(directory / name, self._state())

    def restore(self, directory: Path) -> bool:
        """Takes the newest checkpoint up again; returns whether there is one.

        Raises:
            TrainerError: the checkpoint is another run's, or cannot be opened.
        """
        state = checkpoint.latest(directory)
        if state is not None:
            self._check_same_run(state, f"the checkpoint in {directory}")
            self._take(state, directory)
        return state is not None

    def read_trunk(self, trunk: Path) -> dict[str, Any]:
        """Reads a checkpoint of a run of another length that this run has in common with it.

        Raises:
            TrainerError: this run alone would come to another state at that step: the other one
                differs in more than its length, its rate or its reports had another course by
                then, or its text is another one.
        """
        state = checkpoint.read(trunk)
        self._check_same_run(state, f"the trunk {trunk}", its_length=False)
        if not self.text or state.get("text") != self.text:
            raise TrainerError(f"the trunk {trunk} was trained on another text")
        if "length" not in state:
            raise TrainerError(f"the trunk {trunk} is of an earlier version, without its length")
        then, step = Length(**state["length"]), state["step"]
        if step >= self.length.steps or not same_course(self.config, then, self.length, step):
            raise TrainerError(
                f"the trunk {trunk} is at step {step}, by which its rate had another course"
            )
        between, reported = self.length.between_reports, (each["step"] for each in state["history"])
        if then.between_reports != between or any(each % between for each in reported):
            raise TrainerError(f"the trunk {trunk} was not measured every {between} steps")
        return state

    def begin_with(self, state: Mapping[str, Any], directory: Path) -> None:
        """Begins with what `read_trunk` has read, and writes that as the run's own checkpoint.

        Raises:
            TrainerError: it does not fit this model and text.
        """
        self._take(state, directory)
        self.trunk = self.step
        self.history = [dataclasses.replace(each, trunk=self.trunk) for each in self.history]
        self.save(directory)

    def _take(self, state: Mapping[str, Any], directory: Path) -> None:
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scheduler.load_state_dict(state["scheduler"])
            self.precision.load_state_dict(state["precision"])
            self.row_limit = _lower(self.row_limit, state.get("row_limit", 0))
            self.history = [self._report(fields) for fields in state["history"]]
            # Earlier versions wrote none between two epochs.
            self.step = state.get("step", len(self.history) * self.length.per_epoch)
            self.trunk = state.get("trunk", 0)
            self.stretch = Stretch.of_state(state.get("stretch", {}), self.device)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise TrainerError(
                f"the checkpoint in {directory} does not fit this model and text: {reason}"
            ) from error

    def _report(self, stored: Mapping[str, Any]) -> Report:
        """A stored report; of an earlier version without its step, or before it was extended."""
        report = Report(**stored)
        step = report.step if "step" in stored else report.epoch * self.length.per_epoch
        return dataclasses.replace(report, step=step, steps=self.length.steps)

    def _check_same_run(
        self, state: Mapping[str, Any], what: str, *, its_length: bool = True
    ) -> None:
        then, now = {**LATER, **flat(state.get("config", {}))}, flat(_plain(self.config))
        for name in _CHANGE_NO_STEP:
            then[name] = now[name]
        if its_length:
            if self.config.lr_schedule.counts_horizon:
                for each in (then, now):
                    each[_HORIZON] = _horizon(each)
            then[_HORIZON_STEPS] = now[_HORIZON_STEPS]
        for name in _BUDGET:  # a run may be extended
            then[name] = now[name]
        same_text = bool(self.text) and state.get("text") == self.text
        if same_text or plain_name(str(then.get(_TEXT))) == plain_name(str(now[_TEXT])):
            then[_TEXT] = now[_TEXT]
        if same_text:  # a tokenizer's file may have been moved
            then[_TOKENIZER] = now[_TOKENIZER]
        for name in [*now, *then]:
            was, is_now = then.get(name, "unset"), now.get(name, "unset")
            if was == is_now:
                continue
            hint = (
                "; a decay or a warm-up by share is extended with the lr_schedule.horizon_epochs "
                "or horizon_steps that it began with"
                if name == _HORIZON
                else ""
            )
            raise TrainerError(f"{what} was trained with {name} = {was}, not {is_now}{hint}")

    def _weights(self, report: Report) -> dict[str, Any]:
        return {
            "config": _plain(self.config),
            "model": self.model.state_dict(),
            "report": dataclasses.asdict(report),
        }

    def _state(self) -> dict[str, Any]:
        # No RNG state: every stream is seeded anew by seed, epoch and step, see seeds.py.
        return {
            "config": _plain(self.config),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "precision": self.precision.state_dict(),
            "row_limit": self.row_limit,
            "history": [dataclasses.asdict(report) for report in self.history],
            "step": self.step,
            "trunk": self.trunk,
            "length": dataclasses.asdict(self.length),
            "stretch": self.stretch.state(),
            "text": self.text,
        }


def _horizon(config: Mapping[str, Any]) -> Any:
    """What a flat config's decay and warm-up count: epochs, or "12 steps"."""
    own = next((f"{config[name]} {name}" for name in _BUDGET[1:] if config[name]), None)
    steps = config[_HORIZON_STEPS]
    return config.get(_HORIZON) or (f"{steps} steps" if steps else own or config.get("epochs"))


def _lower(one: int, other: int) -> int:
    """The lower of two limits, of which 0 is none."""
    return min(one, other) or max(one, other)


def _plain(config: TrainConfig) -> dict[str, Any]:
    return dataclasses.asdict(config)
