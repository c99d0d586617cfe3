"""Batches as index slices of token tensors that already lie on the device.

Shapes: S sequences, R rows looked up at once, B rows of a batch, W window, T longest row of the
batch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from trainers.data.corpus import Sequences, Windows
from trainers.data.token_files import MappedSequences
from trainers.permutation import Permutation
from trainers.seeds import ORDER, generator, stream_seed

ROWS_AT_ONCE = 4096
"""Rows of small batches that are looked up together: a look-up takes as long for one."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows in order of falling length, so a model can drop the finished ones.

    Attributes:
        tokens_BT: on the device, int64, padded with 0 at row ends.
        lengths_B: on the CPU, real tokens a row (at least 2).
        score_from_B: on the CPU, the first target of each row that validation scores; target i is
            token i + 1.
    """

    tokens_BT: Tensor
    lengths_B: Tensor
    score_from_B: Tensor

    @property
    def targets(self) -> int:
        """Tokens that this batch predicts."""
        return int(self.lengths_B.sum()) - len(self.lengths_B)

    @property
    def scored(self) -> int:
        """Tokens of it that validation scores."""
        return int((self.lengths_B - 1 - self.score_from_B).sum())

    def parts(self, rows: int | list[int]) -> "list[Batch]":
        """The same rows in the same order, so many at a time; the last part has what is left.

        Args:
            rows: of every part, or of each.
        """
        cut = zip(
            self.tokens_BT.split(rows),
            self.lengths_B.split(rows),
            self.score_from_B.split(rows),
            strict=True,
        )
        return [Batch(*part) for part in cut]


TYPES = (torch.uint8, torch.int16, torch.int32, torch.int64)

_there = WeakTensorKeyDictionary()
"""Of each split's tokens, their copy on each device, for as long as someone uses it."""


def _on_device(tokens_SW: Tensor, device: torch.device) -> Tensor:
    """Tokens in the smallest type that holds them, one copy for all who train side by side."""
    copies = _there.setdefault(tokens_SW, WeakValueDictionary())
    found: Tensor | None = copies.get(device)
    if found is None:
        largest = int(tokens_SW.max())
        small = next(type_ for type_ in TYPES if largest <= torch.iinfo(type_).max)
        found = copies[device] = tokens_SW.to(device, small)
    return found


def batches_of(windows: Windows, device: torch.device) -> "Batches":
    """One split's batches, whether its windows are held or lie in files."""
    if isinstance(windows, MappedSequences):
        return MappedBatches(windows, device)
    return Batches(windows, device)


class Batches:
    """One split on the device.

    Args:
        sequences: the split's windows.
        device: where the tokens are to lie.
    """

    def __init__(self, sequences: Sequences, device: torch.device) -> None:
        self._tokens_SW = _on_device(sequences.tokens, device)
        self._lengths_S = sequences.lengths.cpu()
        # Sequences count tokens, the loss counts targets, which begin at token 1.
        self._score_from_S = sequences.score_from.cpu() - 1
        self._scored_bytes = sequences.scored_bytes

    def __len__(self) -> int:
        return len(self._lengths_S)

    @property
    def window(self) -> int:
        """Tokens of the longest rows."""
        return self._tokens_SW.shape[1]

    def bits_per_byte(self, nats: float) -> float | None:
        """The nats of all scored tokens as bits a byte of their text; None where it is unknown."""
        return nats / (math.log(2) * self._scored_bytes) if self._scored_bytes else None

    def shuffled(self, batch_size: int, seed: int, epoch: int, first: int = 0) -> Iterator[Batch]:
        """An epoch of training batches, the last one partial; their order is (seed, epoch)'s.

        Args:
            batch_size: rows of a batch.
            seed, epoch: of the order; epochs count from 1.
            first: batches of the epoch that are left out, for they were taken before.
        """
        order_S = torch.randperm(len(self), generator=generator(seed, ORDER, epoch))
        return self._cut(order_S[first * batch_size :], batch_size)

    def by_length(self, batch_size: int) -> Iterator[Batch]:
        """Every sequence once, longest first: the least padding, for evaluation."""
        order_S = self._by_falling_length(torch.arange(len(self)), len(self))
        return self._cut(order_S, batch_size)

    def _cut(self, order_S: Tensor, batch_size: int) -> Iterator[Batch]:
        order_S = self._by_falling_length(order_S, batch_size)
        # One transfer an epoch: one a batch would make the host wait for the device every step.
        there_S = order_S.to(self._tokens_SW.device)
        at_once = max(1, ROWS_AT_ONCE // batch_size) * batch_size
        for rows_R, there_R in zip(order_S.split(at_once), there_S.split(at_once), strict=True):
            found = (self._tokens_SW[there_R], self._lengths_S[rows_R], self._score_from_S[rows_R])
            for tokens_BW, lengths_B, score_from_B in zip(
                *(part.split(batch_size) for part in found), strict=True
            ):
                yield Batch(tokens_BW[:, : int(lengths_B[0])].long(), lengths_B, score_from_B)

    def _by_falling_length(self, order_S: Tensor, batch_size: int) -> Tensor:
        """Sort each batch's rows; equally long ones stay in order."""
        lengths_S = self._lengths_S[order_S]
        batch_S = torch.arange(len(order_S)) // batch_size
        return order_S[(batch_S * (int(lengths_S.max()) + 1) - lengths_S).argsort(stable=True)]


class MappedBatches(Batches):
    """One split in files: each batch is cut from them when it is asked for.

    Args:
        sequences: the split's windows.
        device: where the batches are to lie.
    """

    def __init__(self, sequences: MappedSequences, device: torch.device) -> None:
        self._sequences = sequences
        self._device = device
        self._scored_bytes = sequences.scored_bytes

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def window(self) -> int:
        """Tokens of the longest rows."""
        return self._sequences.window

    def shuffled(self, batch_size: int, seed: int, epoch: int, first: int = 0) -> Iterator[Batch]:
        """As of `Batches`; what comes first takes no time to be left out."""
        order = Permutation(len(self), stream_seed(seed, ORDER, epoch))
        for start in range(first * batch_size, len(self), batch_size):
            yield self._batch(order.part(start, start + batch_size))

    def by_length(self, batch_size: int) -> Iterator[Batch]:
        """Every window once, in the order of the files: they are all but all of one length."""
        for start in range(0, len(self), batch_size):
            yield self._batch(np.arange(start, min(start + batch_size, len(self))))

    def _batch(self, numbers_B: npt.NDArray[np.int64]) -> Batch:
        rows, lengths = self._sequences.rows(numbers_B)
        order = np.argsort(-lengths, kind="stable")
        tokens = np.zeros((len(rows), int(lengths.max())), np.int32)
        for place, number in enumerate(order.tolist()):
            tokens[place, : lengths[number]] = rows[number]
        tokens_BT = torch.from_numpy(tokens)
        if self._device.type == "cuda":
            tokens_BT = tokens_BT.pin_memory()  # from other memory the copy waits for the device
        there_BT = tokens_BT.to(self._device, non_blocking=True).long()
        lengths_B = torch.from_numpy(lengths[order])
        return Batch(there_BT, lengths_B, torch.zeros_like(lengths_B))
