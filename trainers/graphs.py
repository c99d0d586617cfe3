"""A function's CUDA kernels recorded once, and launched together from then on.

A recurrence has thousands of small kernels a step, and the host takes longer to launch one than the
GPU to run it. A CUDA graph launches them all at once (https://docs.pytorch.org/docs/stable/notes/
cuda.html#cuda-graphs). It reads and writes the same memory each time: inputs are copied in.
"""

import logging
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

log = logging.getLogger("trainers.graphs")

Inputs = Sequence[Tensor | None]
Forward = Callable[..., tuple[Tensor, ...]]
Backward = Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, ...]]

MOST = 4
"""Recordings kept at once, each with the memory of a step: whole and last batches, two cohorts."""


class Lease:
    """Held by who still needs the outputs of a recording."""


class Recording:
    """A function and its backward for inputs of one set of shapes.

    Args:
        forward: takes the inputs, returns what `backward` reads; draws no random numbers.
        backward: takes the gradient of something like the first output, and the outputs.
        inputs: examples.
    """

    def __init__(self, forward: Forward, backward: Backward, inputs: Inputs) -> None:
        self._inputs = [None if tensor is None else tensor.clone() for tensor in inputs]
        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._forward, capture_error_mode="thread_local"):
            self.outputs = forward(*self._inputs)
        self._grad = torch.zeros_like(self.outputs[0])
        pool = self._forward.pool()
        with torch.cuda.graph(self._backward, pool=pool, capture_error_mode="thread_local"):
            self._grads = backward(self._grad, self.outputs)
        self._lease: weakref.ref[Lease] | None = None

    @property
    def free(self) -> bool:
        """Whether nobody needs the outputs any more."""
        return self._lease is None or self._lease() is None

    def forward(self, inputs: Inputs) -> Lease:
        """Compute `outputs` anew; they hold until the lease is given up."""
        pairs = zip(self._inputs, inputs, strict=True)
        for own, given in pairs:
            if own is not None and given is not None:
                own.copy_(given)
        self._forward.replay()
        lease = Lease()
        self._lease = weakref.ref(lease)
        return lease

    def backward(self, grad: Tensor, lease: Lease | None) -> list[Tensor]:
        """Compute the gradients.

        Raises:
            RuntimeError: the lease was given up, so other outputs may lie there now.
        """
        if lease is None or self._lease is None or self._lease() is not lease:
            raise RuntimeError("a recorded forward pass has one backward pass")
        self._grad.copy_(grad)
        self._backward.replay()
        return [tensor.clone() for tensor in self._grads]


class Recordings:
    """What was recorded in this process, the last used ones."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], Recording] = OrderedDict()
        self._seen: set[tuple[object, ...]] = set()
        self._refused: set[tuple[object, ...]] = set()
        self._off = False

    def __len__(self) -> int:
        return len(self._kept)

    def serve(self, device: torch.device) -> bool:
        """Whether a training step on the device is to be recorded."""
        return (
            device.type == "cuda"
            and torch.is_grad_enabled()
            and not self._off
            and not torch.cuda.is_current_stream_capturing()
        )

    def find(
        self, forward: Forward, backward: Backward, inputs: Inputs, key: tuple[object, ...]
    ) -> Recording | None:
        """Look a recording up, or make it where the same was asked for before.

        Args:
            forward, backward, inputs: as of `Recording`.
            key: whatever else the functions depend on.

        Returns:
            None where the caller must launch kernel by kernel: the first time, which warms up
            what may not be set up while recording; while another pass needs the outputs; and where
            it cannot be recorded, which a warning says once.
        """
        key = (*key, *(None if t is None else (t.shape, t.dtype, t.device) for t in inputs))
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key] if self._kept[key].free else None
        if key not in self._seen:
            self._seen.add(key)
            return None
        if key in self._refused:
            return None
        while len(self._kept) >= MOST:
            self._kept.popitem(last=False)
        try:
            self._kept[key] = Recording(forward, backward, inputs)
        except RuntimeError as error:  # out of memory among them
            self._kept.clear()
            self._refused.add(key)
            reason = " ".join(str(error).split())[:200]
            log.warning("no CUDA graph: every kernel is launched on its own, slower: %s", reason)
            return None
        return self._kept[key]

    def clear(self) -> None:
        """Give their memory back, and forget what was asked for."""
        self._kept.clear()
        self._seen.clear()
        self._refused.clear()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Within it every kernel is launched on its own."""
        before, self._off = self._off, True
        try:
            yield
        finally:
            self._off = before


recordings = Recordings()
