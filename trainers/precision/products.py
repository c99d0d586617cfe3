"""Types of matrix products written by hand, where autocast would cast a weight at every use."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def product_type(x: Tensor) -> torch.dtype:
    """Return the type that autocast would multiply `x` in; its own where autocast is off."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def stored_type(type_: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the type in which a loop written by hand keeps values of `type_`.

    FP16 on the CPU is multiplied in FP32 (see `half`): kept there, rounded, a value needs
    no conversion before each product. Whatever only selects or compares is exact in either.
    """
    return torch.float32 if type_ is torch.float16 and device.type == "cpu" else type_


def rounded(x: Tensor, type_: torch.dtype) -> Tensor:
    """Return `x` rounded to values of `type_`, in the type that these are stored in."""
    stored = stored_type(type_, x.device)
    return x.to(type_) if stored is type_ else x.half().float()


def round_(x: Tensor, type_: torch.dtype) -> Tensor:
    """Round stored values to those of `type_` in place; beyond its largest they are inf."""
    # Only FP16 is stored in another type, and `half()` takes 1.5 us less than `to(type_)`.
    return x if x.dtype is type_ else x.copy_(x.half())


def autocast_off(device: torch.device) -> AbstractContextManager[object]:
    """Within it, types are what the code says."""
    # On the CPU autocast refuses the name of FP32 even where it is disabled.
    return torch.autocast(device.type, torch.bfloat16, enabled=False)


def at_least_fp32(x: Tensor) -> Tensor:
    """Widen FP16 and BF16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def product_in_fp32(left: Tensor, right: Tensor) -> Tensor:
    """Multiply without rounding the sum to the operands' type: it could pass 65,504.

    Args:
        left: (K, A, B).
        right: (K, B, C).

    Returns:
        (K, A, C), in FP32 (FP64 of FP64 operands).
    """
    if left.is_cuda and left.element_size() == 2 and hasattr(torch.ops.aten.bmm, "dtype"):
        return torch.bmm(left, right, out_dtype=torch.float32)
    return plain_bmm(at_least_fp32(left), at_least_fp32(right))


def plain_bmm(left: Tensor, right: Tensor) -> Tensor:
    """Multiply stored values: in place, as `trainers.precision.half` has no kernel for that."""
    return left.new_empty(*left.shape[:2], right.shape[2]).baddbmm_(left, right, beta=0)


def add_bmm_(add: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Add a product in place."""
    if add.is_cuda or add.is_contiguous():
        return add.baddbmm_(left, right)
    # The CPU's batched product needs a contiguous result: otherwise it is done one by one.
    return add.copy_(add.contiguous().baddbmm_(left, right))
