"""A callback for Hugging Face's `Trainer`: `Trainer(..., callbacks=[SweepCallback()])`."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sweep.client import report


class SweepCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Reports every evaluation to the sweep, and ends the training where the sweep says so."""

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Reports; `eval_loss` is nats a token."""
        measured = {
            name.removeprefix("eval_"): value
            for name, value in (metrics or {}).items()
            if name.startswith("eval_") and isinstance(value, int | float)
        }
        if "loss" not in measured:
            return
        loss = measured.pop("loss")
        tokens = int(state.num_input_tokens_seen or 0) or None
        verdict = report(
            state.global_step,
            validation_loss=loss,
            tokens=tokens,
            steps=state.max_steps if state.max_steps > 0 else None,
            **measured,
        )
        if verdict.stop:
            control.should_training_stop = True
