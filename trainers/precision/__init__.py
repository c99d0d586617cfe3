"""The only place where FP32, TF32, FP16 and BF16 differ.

FP16 keeps FP32 weights, multiplies in FP16 and scales the loss, so that small gradients survive
(Micikevicius et al., "Mixed Precision Training", 2018). BF16 has FP32's range: it needs no scaling.
TF32 is FP32 whose products are of 10-bit mantissas where the device has them, as CUDA's from Ampere
on; elsewhere it is FP32.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from trainers.config import PrecisionName
from trainers.precision.half import HalfProducts

INITIAL_SCALE = 2.0**16
MINIMUM_SCALE = 1.0
GROWTH_INTERVAL = 2000
"""Steps without an overflow after which the scale doubles."""

_TYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


class Precision:
    """Forward, backward and step in one precision: the training loop has no branch on it.

    A step is `forward`, the backward pass of what is `scaled`, `unscale`, clip, `step`, in this
    order; several members' is `try_step` of each in its place, then one `settle`.

    Args:
        name: fp32, tf32, fp16 or bf16.
        device: where the model is.
        enabled: False computes in FP32, bit for bit, whatever the name.
    """

    def __init__(self, name: PrecisionName, device: torch.device, *, enabled: bool = True) -> None:
        self._device = device.type
        self._type = _TYPES[name if enabled else "fp32"]
        self._on_cpu = self._type is torch.float16 and device.type == "cpu"
        self._tf32 = name == "tf32" and enabled
        self._scaler = torch.amp.GradScaler(
            device.type,
            init_scale=INITIAL_SCALE,
            growth_interval=GROWTH_INTERVAL,
            enabled=self._type is torch.float16,
        )
        self._scale = float(self._scaler.get_scale())
        self._overflowed = False

    def products(self) -> AbstractContextManager[object]:
        """Multiply as this precision does; around forward and backward it is entered but once."""
        if self._tf32:
            return _tf32_products()
        return HalfProducts() if self._on_cpu else nullcontext()

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Compute the forward pass and the loss in this precision."""
        low = self._type is not torch.float32
        # Autocast on the CPU refuses the name of FP32 even where it is disabled.
        type_ = self._type if low else torch.bfloat16
        with torch.autocast(self._device, type_, enabled=low), self.products():
            yield

    def scaled(self, loss: Tensor) -> Tensor:
        """What to call `backward` of, within `products`: small gradients survive in FP16."""
        return self._scaler.scale(loss)

    def unscale(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale, to clip them by their true norm."""
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer) -> bool:
        """Step and settle, of one alone.

        Returns:
            False where a gradient was not finite, and the scaler skipped the step.
        """
        self.try_step(optimizer)
        return settle([self])[0]

    def try_step(self, optimizer: Optimizer) -> None:
        """Step where every gradient is finite, then update the scale; `settle` tells which it was.

        Args:
            optimizer: a fused one decides on the device whether it steps, others wait for the host.
        """
        self._scaler.step(optimizer)
        self._scaler.update()

    def _settle(self, scale: float) -> bool:
        before, self._scale = self._scale, scale
        # The scaler's own sign of a skipped step, whoever decided on it: only then it falls.
        skipped = scale < before
        self._overflowed = skipped and scale <= MINIMUM_SCALE
        return not skipped

    @property
    def scale(self) -> float:
        """What the loss is multiplied by; 1 where nothing is scaled."""
        return self._scale

    @property
    def overflowed(self) -> bool:
        """Tell whether the last step was skipped and no smaller scale is worth a trial."""
        return self._overflowed

    def state_dict(self) -> dict[str, Any]:
        """Return the scaler's state, {} where nothing is scaled."""
        return dict(self._scaler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self._scaler.load_state_dict(state)
        self._scale = float(self._scaler.get_scale())


@contextmanager
def _tf32_products() -> Iterator[None]:
    """Within it CUDA multiplies in TF32; torch's switches are of the whole process."""
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = True
    try:
        yield
    finally:
        for switch, was in zip(switches, before, strict=True):
            switch.allow_tf32 = was


def settle(precisions: Sequence[Precision]) -> list[bool]:
    """Read every scale at once after `try_step`: the only wait for the device of a step.

    Returns:
        Of each, False where a gradient was not finite, and the scaler skipped the step.
    """
    if not any(precision._scaler.is_enabled() for precision in precisions):
        return [True] * len(precisions)
    one = torch.ones((), device=precisions[0]._device)
    scales = torch.stack([precision._scaler.scale(one) for precision in precisions]).tolist()
    return [each._settle(scale) for each, scale in zip(precisions, scales, strict=True)]
