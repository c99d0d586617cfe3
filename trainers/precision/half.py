"""FP16's matrix products on the CPU, as tensor cores do them.

Operands are FP16, products are summed in FP32, the result is rounded to FP16 once; beyond 65,504
it is inf. PyTorch's own FP16 products take 20 to 80 times as long as FP32's on a CPU without
native ones, and sum in a precision of their own.

The CPU kernels of four operators are replaced for a while, through the documented way
(`torch.library.Library("aten", "IMPL")`); linear, matmul, einsum and all backward formulas end in
these four. A `TorchDispatchMode` would do the same, but costs 4 us at every operation rather than
at a product: a small model's step took 2.5 times as long.
"""

import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Product = Callable[..., Tensor]


class HalfProducts:
    """While entered, FP16 products on the CPU are those of tensor cores. Enter it in backward too.

    Other types' products are what they always are. Entering is not bound to a thread: the kernels
    are the process's. It may be nested.
    """

    _lock = threading.Lock()
    _entered = 0
    _state: ExitStack | None = None

    def __enter__(self) -> Self:
        with HalfProducts._lock:
            if HalfProducts._entered == 0:
                HalfProducts._state = _replace()
            HalfProducts._entered += 1
        return self

    def __exit__(self, *_: object) -> None:
        with HalfProducts._lock:
            HalfProducts._entered -= 1
            if HalfProducts._entered == 0 and HalfProducts._state is not None:
                HalfProducts._state.close()
                HalfProducts._state = None


def _replace() -> ExitStack:
    """Replace the kernels until the stack is closed."""
    stack = ExitStack()
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*previously registered kernel")
        for name, kernel in _KERNELS.items():
            library.impl(name, kernel, "CPU")
    stack.callback(library._destroy)
    stack.callback(_singles.clear)
    # The fused attention kernel has slow FP16 products inside; this one ends in bmm.
    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    return stack


def _mm(left: Tensor, right: Tensor) -> Tensor:
    size = (left.shape[0], right.shape[1])
    if not _both_half(left, right):
        return torch.mm(left, right, out=left.new_empty(size))
    out = torch.empty(size)
    return torch.mm(left.float(), _single(right, left), out=out).half()


def _addmm(add: Tensor, left: Tensor, right: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    size = (left.shape[0], right.shape[1])
    if not _both_half(left, right):
        out = left.new_empty(size)
        return torch.addmm(add, left, right, beta=beta, alpha=alpha, out=out)
    out = torch.empty(size)
    right = _single(right, left)
    return torch.addmm(add.float(), left.float(), right, beta=beta, alpha=alpha, out=out).half()


def _bmm(left: Tensor, right: Tensor) -> Tensor:
    size = (*left.shape[:2], right.shape[2])
    if not _both_half(left, right):
        return torch.bmm(left, right, out=left.new_empty(size))
    return torch.bmm(left.float(), _single(right, left), out=torch.empty(size)).half()


def _baddbmm(add: Tensor, left: Tensor, right: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    size = (*left.shape[:2], right.shape[2])
    if not _both_half(left, right):
        out = left.new_empty(size)
        return torch.baddbmm(add, left, right, beta=beta, alpha=alpha, out=out)
    out = torch.empty(size)
    right = _single(right, left)
    return torch.baddbmm(add.float(), left.float(), right, beta=beta, alpha=alpha, out=out).half()


def _both_half(left: Tensor, right: Tensor) -> bool:
    return left.dtype is torch.float16 and right.dtype is torch.float16


_KERNELS: dict[str, Product] = {"mm": _mm, "addmm": _addmm, "bmm": _bmm, "baddbmm": _baddbmm}

_singles: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}
"""FP16 weights and their FP32 copies. A weight held here keeps its address to itself."""


def _single(right: Tensor, left: Tensor) -> Tensor:
    # A recurrence multiplies a few rows by the same weights at every position: converting
    # these would take as long as the product.
    if right.numel() < 4 * left.numel() or right.is_inference():
        return right.float()
    key = (right.data_ptr(), right.shape, right.stride(), right._version)
    if key not in _singles:
        _singles[key] = (right, right.float())
    return _singles[key][1]
