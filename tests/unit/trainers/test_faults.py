"""What a trainer raised becomes an ending."""

import pytest
import torch

from trainers.errors import TrainerError
from trainers.faults import ending_of
from trainers.report import Outcome


def raised_by(call):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return caught.value


def test_the_cpu_allocator_s_own_error_is_out_of_memory():
    error = raised_by(lambda: torch.empty(2**50))
    ending = ending_of(error)
    assert ending.outcome is Outcome.OUT_OF_MEMORY
    assert ending.message.startswith("ran out of memory: ")
    assert "\n" not in ending.message


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory: x"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_every_allocator_s_error_is_out_of_memory(error):
    assert ending_of(error).outcome is Outcome.OUT_OF_MEMORY


def test_other_errors_are_failures_in_one_line():
    ending = ending_of(RuntimeError("mat1 and mat2 do not fit\nsecond line"))
    assert ending.outcome is Outcome.FAILED
    assert ending.message == "failed: RuntimeError: mat1 and mat2 do not fit"


def test_an_error_without_a_text_is_named():
    assert ending_of(ZeroDivisionError()).message == "failed: ZeroDivisionError: ZeroDivisionError"


def test_the_user_s_errors_are_said_as_they_are_written():
    assert ending_of(TrainerError("batch_size 9 is too much")).message == (
        "failed: batch_size 9 is too much"
    )


def test_running_out_of_memory_in_the_user_s_words_is_no_out_of_memory():
    assert ending_of(ValueError("I have not enough memory of it")).outcome is Outcome.FAILED


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_s_own_error_is_out_of_memory():
    error = raised_by(lambda: torch.empty(2**50, device="cuda"))
    assert ending_of(error).outcome is Outcome.OUT_OF_MEMORY


def test_a_device_that_is_gone_is_no_fault_of_the_trainer() -> None:
    error = RuntimeError(
        "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might"
    )
    ending = ending_of(error)
    said = "lost: its device is gone: CUDA error: uncorrectable ECC error encountered"
    assert (ending.outcome, ending.message) == (Outcome.LOST, said)
