"""What training has come to between two reports; a checkpoint in their midst holds it too."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(slots=True)
class Stretch:
    """The steps since the last report.

    Attributes:
        nats: of each step, on the device, so that the loop does not wait for it.
        targets: of each step, tokens that it predicted.
        skipped: steps that the gradient scaler skipped.
        seconds: that they took.
        learning_rate: of the last one.
    """

    nats: list[Tensor] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    skipped: int = 0
    seconds: float = 0.0
    learning_rate: float = math.nan

    def add(self, nats: Tensor, targets: int, *, stepped: bool) -> None:
        """Takes one step in."""
        self.nats.append(nats)
        self.targets.append(targets)
        self.skipped += not stepped

    @property
    def tokens(self) -> int:
        """Tokens that were predicted."""
        return sum(self.targets)

    def host_nats(self) -> Tensor:
        """The nats of each step, float64, on the host; waits for the device."""
        if not self.nats:
            return torch.zeros(0, dtype=torch.float64)
        return torch.stack(self.nats).double().cpu()

    def mean_loss(self) -> float:
        """Nats a target; a step that FP16 skipped may have an infinite loss, and does not count."""
        total, counted = 0.0, 0
        for nats, targets in zip(self.host_nats().tolist(), self.targets, strict=True):
            if math.isfinite(nats):
                total += nats
                counted += targets
        return total / counted if counted else math.nan

    def state(self) -> dict[str, Any]:
        """All of it, for a checkpoint."""
        return {
            "nats": self.host_nats(),
            "targets": list(self.targets),
            "skipped": self.skipped,
            "seconds": self.seconds,
            "learning_rate": self.learning_rate,
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Any], device: torch.device) -> "Stretch":
        """What `state` gave; nothing of a checkpoint that has none."""
        if not state:
            return cls()
        return cls(**{**state, "nats": [*state["nats"].to(device).unbind()]})
