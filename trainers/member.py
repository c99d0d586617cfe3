"""One trial's state: model, optimizer, precision, schedule and history."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainers import checkpoint
from trainers.config import LATER, TrainConfig, flat
from trainers.errors import TrainerError
from trainers.kernels.dropout import BLOCK
from trainers.models import StackedModel, build_model
from trainers.naming import plain_name
from trainers.precision import Precision
from trainers.report import EpochReport
from trainers.schedule import clip_norm, lr_scheduler
from trainers.seeds import DROPOUT, WEIGHTS, RandomStream, stream_seed
from trainers.steps.memory import bytes_of_a_row, keep_freed_memory, rows_that_fit

_TEXT = "data.name"
_HORIZON = "lr_schedule.horizon_epochs"
_OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class Member:
    """A model in training.

    Args:
        config: the run.
        vocabulary_size: of the corpus.
        steps_per_epoch: optimizer steps in an epoch, for the schedule.
        device: where the model lives.
        text: the corpus's fingerprint: a checkpoint knows its text by it, whatever it is called.
        half: False switches autocast and scaler off, to show that the loops are one.

    Raises:
        TrainerError: the model's name or options are wrong.
    """

    def __init__(
        self,
        config: TrainConfig,
        vocabulary_size: int,
        steps_per_epoch: int,
        device: torch.device,
        *,
        text: str = "",
        half: bool = True,
    ) -> None:
        keep_freed_memory()
        torch.manual_seed(stream_seed(config.seed, WEIGHTS))
        self.config = config
        self.text = text
        self.device = device
        self.model = build_model(config.model, vocabulary_size).to(device)
        self.precision = Precision(config.precision, device, enabled=half)
        self.optimizer = _OPTIMIZERS[config.optimizer](
            self.model.parameters(),
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.scheduler = lr_scheduler(config, self.optimizer, steps_per_epoch)
        self.random = RandomStream(device)
        self.history: list[EpochReport] = []
        self._row_bytes = 0
        self.row_limit = 0
        self.limit_rows(config.micro_batch)

    def apply(self) -> bool:
        """Take the step that the gradients ask for: unscale, clip, step, update.

        Returns:
            False where the scaler skipped it.
        """
        self.precision.unscale(self.optimizer)
        limit = clip_norm(self.config.clip_schedule, len(self.history))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        stepped = self.precision.step(self.optimizer)
        if stepped:
            self.scheduler.step()
        return stepped

    def begin_epoch(self, number: int) -> None:
        """Dropout in an epoch depends on the seed and the epoch alone."""
        self.random.seed(stream_seed(self.config.seed, DROPOUT, number))

    def rows_that_fit(self, members: int) -> int:
        """Rows of each member's batch that a cohort of so many computes at once."""
        rows = min(self._rows_in_memory(members), self.config.batch_size)
        return min(rows, self.row_limit) if self.row_limit else rows

    def limit_rows(self, rows: int) -> None:
        """Computes no more rows at once from now on: above a block of masks, whole blocks."""
        self.row_limit = rows // BLOCK * BLOCK if rows > BLOCK else rows

    def _rows_in_memory(self, members: int) -> int:
        if self.config.batch_size <= BLOCK or not isinstance(self.model, StackedModel):
            return self.config.batch_size
        if not self._row_bytes:
            self._row_bytes = bytes_of_a_row(self.model, self.config.data.window, self.device)
        return rows_that_fit(members * self._row_bytes, self.device)

    @property
    def learning_rate(self) -> float:
        """The rate that the next step takes."""
        return float(self.optimizer.param_groups[0]["lr"])

    def finite(self) -> bool:
        """Whether every parameter is finite. Costs one synchronisation."""
        # The largest magnitude: unlike a sum of squares, it is finite wherever they all are.
        parameters = [parameter.detach() for parameter in self.model.parameters()]
        return bool(torch.nn.utils.get_total_norm(parameters, math.inf).isfinite())

    def patience_spent(self) -> bool:
        """Whether the perplexity has not improved by `min_delta` for `patience` epochs."""
        best, best_epoch = float("inf"), 0
        for report in self.history:
            if report.perplexity < best - self.config.min_delta:
                best, best_epoch = report.perplexity, report.epoch
        return bool(self.history) and len(self.history) - best_epoch >= self.config.patience

    def finish_epoch(self, report: EpochReport, directory: Path) -> None:
        """Adds a report to the history and writes the checkpoint, and `best.pt` where it is."""
        best = min((past.validation_loss for past in self.history), default=float("inf"))
        self.history.append(report)
        if report.validation_loss < best:
            # Before `last.pt`: a crash between the two only repeats this epoch.
            checkpoint.write(directory / checkpoint.BEST, self._weights(report))
        checkpoint.save(directory, self._state())

    def restore(self, directory: Path) -> None:
        """Takes the newest checkpoint up again, where there is one.

        Raises:
            TrainerError: the checkpoint is another run's, or cannot be opened.
        """
        state = checkpoint.latest(directory)
        if state is None:
            return
        self._check_same_run(state, directory)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scheduler.load_state_dict(state["scheduler"])
            self.precision.load_state_dict(state["precision"])
            self.row_limit = _lower(self.row_limit, state.get("row_limit", 0))
            self.history = [EpochReport(**fields) for fields in state["history"]]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise TrainerError(
                f"the checkpoint in {directory} does not fit this model and text: {reason}"
            ) from error

    def _check_same_run(self, state: Mapping[str, Any], directory: Path) -> None:
        then, now = {**LATER, **flat(state.get("config", {}))}, flat(_plain(self.config))
        then["micro_batch"] = now["micro_batch"]
        if self.config.lr_schedule.counts_horizon:
            for each in (then, now):
                each[_HORIZON] = each.get(_HORIZON) or each.get("epochs")
        then["epochs"] = now["epochs"]  # a run may be extended
        same_text = bool(self.text) and state.get("text") == self.text
        if same_text or plain_name(str(then.get(_TEXT))) == plain_name(str(now[_TEXT])):
            then[_TEXT] = now[_TEXT]
        for name in [*now, *then]:
            was, is_now = then.get(name, "unset"), now.get(name, "unset")
            if was == is_now:
                continue
            hint = (
                "; a decay or a warm-up by share is extended with the lr_schedule.horizon_epochs "
                "that it began with"
                if name == _HORIZON
                else ""
            )
            raise TrainerError(
                f"the checkpoint in {directory} was trained with {name} = {was}, not {is_now}{hint}"
            )

    def _weights(self, report: EpochReport) -> dict[str, Any]:
        return {
            "config": _plain(self.config),
            "model": self.model.state_dict(),
            "report": dataclasses.asdict(report),
        }

    def _state(self) -> dict[str, Any]:
        # No RNG state: every stream is seeded anew by (seed, epoch), see seeds.py.
        return {
            "config": _plain(self.config),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "precision": self.precision.state_dict(),
            "row_limit": self.row_limit,
            "history": [dataclasses.asdict(report) for report in self.history],
            "text": self.text,
        }


def _lower(one: int, other: int) -> int:
    """The lower of two limits, of which 0 is none."""
    return min(one, other) or max(one, other)


def _plain(config: TrainConfig) -> dict[str, Any]:
    return dataclasses.asdict(config)
