"""A callback for Lightning: `Trainer(..., callbacks=[SweepCallback()])`."""

from typing import Any

try:
    from lightning.pytorch import Callback
except ImportError:
    from pytorch_lightning import Callback

from sweep.client import report


class SweepCallback(Callback):  # type: ignore[misc, unused-ignore]
    """Reports every validation to the sweep, and ends the training where the sweep says so.

    Args:
        monitor: what the module logs as its validation loss, nats a token.
    """

    def __init__(self, monitor: str = "val_loss") -> None:
        self._monitor = monitor

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        """Reports, but for the check before the training."""
        if trainer.sanity_checking or self._monitor not in trainer.callback_metrics:
            return
        steps = trainer.estimated_stepping_batches
        verdict = report(
            trainer.global_step,
            validation_loss=trainer.callback_metrics[self._monitor],
            steps=int(steps) if steps < float("inf") else None,
        )
        if verdict.stop:
            trainer.should_stop = True
