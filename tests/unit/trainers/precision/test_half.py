import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from trainers.precision.half import HalfProducts


def halves(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(*shape, generator=generator)).half()


def exact(*operands):
    """The product of FP16 operands in float64, rounded to FP16 once."""
    with np.errstate(over="ignore"):
        return torch.from_numpy(
            np.matmul(*(operand.numpy().astype(np.float64) for operand in operands)).astype(
                np.float16
            )
        )


def assert_within_one_ulp(found, expected):
    assert found.dtype == torch.float16
    assert torch.equal(found.isinf(), expected.isinf())
    # The neighbours of an FP16 differ by one in their bits; sign and magnitude to a number line.
    line = [x.view(torch.int16).int() for x in (found, expected)]
    line = [torch.where(bits < 0, -(bits & 0x7FFF), bits) for bits in line]
    assert (line[0] - line[1]).abs().max() <= 1


def bmm_pair(seed):
    return halves(3, 5, 33, seed=seed), halves(3, 33, 4, seed=seed + 1)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("seed", range(5))
def test_mm_is_exact_to_one_ulp(seed, scale):
    left, right = halves(7, 65, seed=seed, scale=scale), halves(65, 9, seed=seed + 99, scale=scale)
    with HalfProducts():
        assert_within_one_ulp(left @ right, exact(left, right))
        assert_within_one_ulp(left.t().contiguous().t() @ right, exact(left, right))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 9), st.integers(0, 10**6))
def test_any_shape(rows, inner, columns, seed):
    left, right = halves(rows, inner, seed=seed), halves(inner, columns, seed=seed + 1)
    with HalfProducts():
        assert_within_one_ulp(torch.mm(left, right), exact(left, right))


def test_bmm_and_baddbmm():
    left, right = bmm_pair(0)
    add = halves(3, 5, 4, seed=7)
    with HalfProducts():
        assert_within_one_ulp(torch.bmm(left, right), exact(left, right))
        found = torch.baddbmm(add, left, right, beta=0.5, alpha=2)
    expected = 0.5 * add.double() + 2 * (left.double() @ right.double())
    assert_within_one_ulp(found, expected.half())


def test_addmm_rounds_once():
    # 2048 + 1 + 1: rounded between, each 1 would be lost.
    add, left, right = (
        torch.ones(1, 1).half(),
        torch.tensor([[2048.0, 1.0]]).half(),
        torch.ones(2, 1),
    )
    with HalfProducts():
        assert torch.addmm(add, left, right.half()).item() == 2050


def test_sums_are_fp32():
    left = torch.ones(1, 4096).half()
    with HalfProducts():
        assert (left @ left.t()).item() == 4096  # summed in FP16 it would stop at 2048


def test_overflow_is_inf():
    left, right = torch.full((1, 2), 256.0).half(), torch.full((2, 1), 128.0).half()
    with HalfProducts():
        assert (left @ right).item() == float("inf")
        assert (left @ -right).item() == float("-inf")
        assert (left[:, :1] @ right[:1] * 1.999).item() == 65504


def test_backward_is_exact_and_overflows():
    x, weight = halves(6, 20).requires_grad_(), halves(8, 20, seed=1).requires_grad_()
    gradient = halves(6, 8, seed=2)
    with HalfProducts():
        F.linear(x, weight).backward(gradient)
    assert_within_one_ulp(x.grad, exact(gradient, weight.detach()))
    assert_within_one_ulp(weight.grad, exact(gradient.t(), x.detach()))
    x.grad = None
    with HalfProducts():
        F.linear(x, weight).backward(torch.full((6, 8), 6e4).half())
    assert x.grad.isinf().any()


def test_a_changed_weight_is_seen():
    # One row against many columns: the weight's FP32 copy is kept while entered.
    x, weight = halves(1, 16), halves(16, 64, seed=1)
    with HalfProducts():
        for _ in range(3):
            assert_within_one_ulp(x @ weight, exact(x, weight))
            weight.add_(1)
    with torch.inference_mode(), HalfProducts():
        weight = weight.clone()
        assert_within_one_ulp(x @ weight, exact(x, weight))


def test_other_types_are_untouched():
    left, right = torch.randn(4, 5), torch.randn(5, 6)
    add, batches = torch.randn(4, 6), torch.randn(2, 4, 4)
    operations = [
        lambda t: torch.mm(left.to(t), right.to(t)),
        lambda t: torch.addmm(add.to(t), left.to(t), right.to(t), beta=2, alpha=3),
        lambda t: torch.bmm(batches.to(t), batches.to(t)),
        lambda t: torch.baddbmm(batches.to(t), batches.to(t), batches.to(t), beta=2),
    ]
    for operation in operations:
        for type_ in (torch.float32, torch.float64, torch.bfloat16):
            plain = operation(type_)
            with HalfProducts():
                assert torch.equal(operation(type_), plain)
    with HalfProducts(), pytest.raises(RuntimeError, match="dtype"):
        torch.mm(left.half(), right)


def test_leaving_restores_the_kernels():
    left, right = halves(2, 3000), halves(3000, 2, seed=1)
    native = torch._C._dispatch_dump_table("aten::mm")
    with HalfProducts():
        with HalfProducts():
            pass
        assert torch._C._dispatch_dump_table("aten::mm") != native
        assert_within_one_ulp(left @ right, exact(left, right))
    assert torch._C._dispatch_dump_table("aten::mm") == native


def test_an_error_inside_restores_the_kernels():
    native = torch._C._dispatch_dump_table("aten::mm")
    with pytest.raises(ZeroDivisionError), HalfProducts():
        _ = 1 / 0
    assert torch._C._dispatch_dump_table("aten::mm") == native


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_attention_in_half(dropout):
    shape = (2, 4, 9, 8)
    single = [halves(*shape, seed=s).float().requires_grad_() for s in range(3)]
    half = [x.detach().half().requires_grad_() for x in single]
    gradient = halves(*shape, seed=9)
    results = []
    for operands in (single, half):
        torch.manual_seed(0)
        with HalfProducts():
            y = F.scaled_dot_product_attention(*operands, dropout_p=dropout, is_causal=True)
            y.backward(gradient.to(y.dtype))
        results.append([y.detach().float(), *(x.grad.float() for x in operands)])
    assert half[0].grad.dtype == torch.float16
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-3, atol=4e-3)


def test_modules_of_a_users_model_are_covered(monkeypatch):
    """An LSTM, multi-head attention and einsum multiply through the same four operators."""
    x = halves(2, 3, 8)
    with HalfProducts():
        lstm = nn.LSTM(8, 8).half()
        attention = nn.MultiheadAttention(8, 2).half()
        for found, reference in (
            (lstm(x)[0], lstm.float()(x.float())[0]),
            (attention(x, x, x)[0], attention.float()(x.float(), x.float(), x.float())[0]),
            (torch.einsum("abc,dbc->ad", x, x), torch.einsum("abc,dbc->ad", x.float(), x.float())),
        ):
            torch.testing.assert_close(found.float(), reference, rtol=3e-3, atol=3e-3)


@pytest.mark.parametrize("operation", [torch.sigmoid, torch.tanh, F.relu, F.gelu, lambda x: x + x])
def test_elementwise_operations_are_torchs_own(operation):
    x = halves(100)
    native = operation(x)
    with HalfProducts():
        assert torch.equal(operation(x), native)
