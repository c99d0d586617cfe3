"""Types of matrix products written by hand, where autocast would cast a weight at every use."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def product_type(x: Tensor) -> torch.dtype:
    """Return the type that autocast would multiply `x` in; its own where autocast is off."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


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
    return torch.bmm(at_least_fp32(left), at_least_fp32(right))
