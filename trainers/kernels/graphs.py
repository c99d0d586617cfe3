"""A function's CUDA kernels recorded once, and launched together from then on.

A recurrence has thousands of small kernels a step, and the host takes longer to launch one than the
GPU to run it. A CUDA graph launches them all at once (https://docs.pytorch.org/docs/stable/notes/
cuda.html#cuda-graphs). It reads and writes the same memory each time: inputs are copied in.
"""

import logging
import warnings
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

log = logging.getLogger("trainers.kernels.graphs")

Inputs = Sequence[Tensor | None]
Forward = Callable[..., tuple[Tensor, ...]]
Backward = Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, ...]]
Key = tuple[object, ...]

MOST = 4
"""Recordings kept at once, each with the memory of a step: whole and last batches, two cohorts."""
ROOM = 3
"""Times the outputs' memory that must be free: for them, the backward pass, and all around it."""


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
        with torch.cuda.device(device_of(inputs)), warnings.catch_warnings():
            # Said where there was no room for the first kernel's output: an error tells of it.
            warnings.filterwarnings("ignore", message="The CUDA Graph is empty")
            stream = torch.cuda.Stream()  # by default it would be one of the first device used
            recorded = partial(torch.cuda.graph, stream=stream, capture_error_mode="thread_local")
            with recorded(self._forward):
                self.outputs = forward(*self._inputs)
            self._grad = torch.zeros_like(self.outputs[0])
            with recorded(self._backward, pool=self._forward.pool()):
                self._grads = backward(self._grad, self.outputs)
        self._run: weakref.ref[Run] | None = None

    @property
    def free(self) -> bool:
        """Whether no run needs the outputs any more."""
        run = None if self._run is None else self._run()
        return run is None or run.done

    def run(self, inputs: Inputs) -> "Run":
        """Compute `outputs` anew."""
        for own, given in zip(self._inputs, inputs, strict=True):
            if own is not None and given is not None:
                own.copy_(given)
        self._forward.replay()
        run = Run(self)
        self._run = weakref.ref(run)
        return run

    def gradients(self, grad: Tensor) -> list[Tensor]:
        """Compute what the backward function returns, of the outputs as they are."""
        self._grad.copy_(grad)
        self._backward.replay()
        return [tensor.clone() for tensor in self._grads]


class Run:
    """One forward pass of a recording, whose outputs hold until its backward pass."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.done = False

    def backward(self, grad: Tensor) -> list[Tensor]:
        """Compute the gradients.

        Raises:
            RuntimeError: it was done before, and other outputs may lie there now.
        """
        if self.done:
            raise RuntimeError("a recorded forward pass has one backward pass")
        self.done = True
        return self._recording.gradients(grad)


class Recordings:
    """What was recorded in this process, the last used ones."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, Recording] = OrderedDict()
        self._bytes: dict[Key, int] = {}  # of what was run without a recording
        self._refused: set[Key] = set()
        self._evicted = Counter[Key]()
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

    def run(
        self, forward: Forward, backward: Backward, inputs: Inputs, depends_on: Key
    ) -> tuple[tuple[Tensor, ...], Run | None]:
        """Compute `forward(*inputs)`, by a recording from the second time on.

        The first time warms up what may not be set up while recording.

        Args:
            forward, backward, inputs: as of `Recording`.
            depends_on: whatever else the functions depend on.

        Returns:
            The outputs, and the run that holds them; None where each kernel was launched: the first
            time, while another run needs the recording's outputs, and where there is no room, it
            cannot be recorded or was given up for others twice, of which a warning tells once.
        """
        key = (*depends_on, *(None if t is None else (t.shape, t.dtype, t.device) for t in inputs))
        if key in self._bytes and key not in self._kept and key not in self._refused:
            self._record(forward, backward, inputs, key)
        recording = self._kept.get(key)
        if recording is not None and recording.free:
            self._kept.move_to_end(key)
            return recording.outputs, recording.run(inputs)
        outputs = forward(*inputs)
        self._bytes[key] = bytes_of(inputs) + ROOM * bytes_of(outputs)
        return outputs, None

    def _record(self, forward: Forward, backward: Backward, inputs: Inputs, key: Key) -> None:
        while len(self._kept) >= MOST:
            evicted, _ = self._kept.popitem(last=False)
            self._evicted[evicted] += 1
            # To record takes as long as many steps: shapes in turn would never be done with it.
            if self._evicted[evicted] == 2:
                self._refuse(evicted, f"more than {MOST} shapes take turns")
        device = device_of(inputs)
        stream = torch.cuda.current_stream(device)
        try:
            if free_bytes(device) < self._bytes[key]:
                raise RuntimeError(f"it takes {self._bytes[key] / 2**30:.2g} GiB")
            self._kept[key] = Recording(forward, backward, inputs)
        except RuntimeError as error:  # out of memory among them
            torch.cuda.set_stream(stream)  # a recording that breaks off may leave another
            self._kept.clear()
            self._refuse(key, str(error))

    def _refuse(self, key: Key, why: str) -> None:
        self._refused.add(key)
        reason = " ".join(why.split())[:200]
        log.warning("no CUDA graph: every kernel is launched on its own, slower: %s", reason)

    def clear(self) -> None:
        """Give their memory back, and forget what was run."""
        self._kept.clear()
        self._bytes.clear()
        self._refused.clear()
        self._evicted.clear()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Within it every kernel is launched on its own."""
        before, self._off = self._off, True
        try:
            yield
        finally:
            self._off = before


def device_of(tensors: Iterable[Tensor | None]) -> torch.device:
    """The device of the first one, and so of all."""
    return next(tensor.device for tensor in tensors if tensor is not None)


def bytes_of(tensors: Iterable[Tensor | None]) -> int:
    """The memory of tensors that share none."""
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def free_bytes(device: torch.device) -> int:
    """What this process may still take: of the device, or of the share that it was set."""
    free, total = torch.cuda.mem_get_info(device)
    share = torch.cuda.get_per_process_memory_fraction(device)
    reserved = torch.cuda.memory_reserved(device)
    cached = reserved - torch.cuda.memory_allocated(device)
    return min(free, int(share * total) - reserved) + cached


recordings = Recordings()
