"""Processes that train one model together, each on a share of every batch's rows.

Each takes every step with the same gradients: their sum. `DistributedDataParallel` is not used: it
wraps a module's forward pass, where a stacked model computes with weights that it is handed; and it
takes its means within backward, where a process that finds no room must first be heard.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from trainers.batches import Batch

BUCKET = 2**24
"""Values that are summed in one go; their copy takes as much memory."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Share:
    """What one process computes of a batch.

    Attributes:
        batch: its rows.
        first: the number of the first of them.
        counts: False where the batch has fewer rows than there are ranks, and none is left: the
            first one is then computed for nothing, so that the same parameters have gradients.
    """

    batch: Batch
    first: int
    counts: bool = True


class Ranks:
    """The processes, and which of them this one is; by default it is alone.

    Args:
        rank: of this process; 0 leads.
        count: of all.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    def join(self, model: nn.Module) -> None:
        """Waits for the others, and gives their models this one's values. Only who leads does."""

    def tell(self, *, scoring: bool) -> None:
        """Has the others do the same work: score, or take a step. Only who leads does that."""

    def failed(self, error: RuntimeError) -> Exception:
        """What is raised where the others could not be reached."""
        return error

    def rows(self, batch_size: int) -> int:
        """Rows of a batch that a process computes, at the most."""
        return math.ceil(batch_size / self.count)

    def share(self, batch: Batch) -> Share:
        """This process's rows of a batch; rank 0 has one at least."""
        whole = len(batch.lengths_B)
        begin, end = (math.ceil(rank * whole / self.count) for rank in (self.rank, self.rank + 1))
        if begin == end:
            return Share(batch.parts(1)[0], 0, counts=False)
        return Share(batch.parts([begin, end - begin, whole - end])[1], begin)

    def all(self, well: bool) -> bool:
        """Whether it went well with every one."""
        return bool(self.least(int(well)))

    def least(self, number: int) -> int:
        """The least of each one's number; on the host, so that no device is waited for."""
        if self.count == 1:
            return number
        found = torch.tensor(number)
        self._reached(lambda: dist.all_reduce(found, dist.ReduceOp.MIN))
        return int(found)

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Puts each one's sum over the ranks in its place, the same bits on all of them."""
        if self.count == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            self._reached(lambda flat=flat: dist.all_reduce(flat))  # type: ignore[misc]
            parts = flat.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def take_first_(self, tensors: Sequence[Tensor]) -> None:
        """Puts rank 0's values in the place of each tensor's own."""
        if self.count == 1:
            return
        for tensor in tensors:
            values = tensor.detach().contiguous().flatten().view(torch.uint8)  # gloo has no bool
            self._reached(lambda values=values: dist.broadcast(values, 0))  # type: ignore[misc]
            tensor.detach().copy_(values.view(tensor.dtype).view_as(tensor))

    def _reached(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except RuntimeError as error:
            if (failure := self.failed(error)) is error:
                raise
            raise failure from error


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Neighbours of one type, so many that they are worth a call."""
    buckets: list[list[Tensor]] = []
    values = BUCKET
    for tensor in tensors:
        if values >= BUCKET or tensor.dtype is not buckets[-1][0].dtype:
            buckets.append([])
            values = 0
        buckets[-1].append(tensor)
        values += tensor.numel()
    return buckets


ALONE = Ranks()
