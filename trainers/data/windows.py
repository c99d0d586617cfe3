"""Paragraphs cut into windows. Shapes: S windows of W tokens."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from trainers.data.corpus import Sequences
from trainers.data.subwords import Encoder, Subwords
from trainers.data.vocabulary import PAD, Integers, Tokens

_SEED = 0  # of the subset: not the training seed, so that every run sees the same text


def cut_text(
    encoder: Encoder,
    paragraphs: Iterable[str],
    counts: Integers,
    window: int,
    stride: int,
    most: int,
    *,
    measured: bool = False,
) -> Sequences:
    """As `cut`, of a text of which only the chosen windows' paragraphs are ever numbers.

    Args:
        encoder: of the training text.
        paragraphs: of a text.
        counts: their tokens, as `encoder.counts` has them.
        window, stride, most: as of `cut`.
        measured: whether to count the bytes of what is scored; not of words.
    """
    paragraph, number = _choose(counts, window, stride, most)
    chosen, place = np.unique(paragraph, return_inverse=True)
    sequences = _taken(encoder.tokens(paragraphs, chosen), place, number, window, stride)
    if not measured or not isinstance(encoder, Subwords):
        return sequences
    spans = Tokens(encoder.byte_counts(paragraphs, chosen), counts[chosen])
    bytes_SW = _taken(spans, place, number, window, stride).tokens
    return replace(sequences, scored_bytes=int(bytes_SW[sequences.is_scored].sum()))


def pack_text(
    encoder: Encoder,
    paragraphs: Iterable[str],
    counts: Integers,
    window: int,
    most: int,
    *,
    measured: bool = False,
) -> Sequences:
    """Cut a text whose paragraphs stand end to end, the encoder's `end` before and behind each.

    Window k begins at token k * (window - 1), so that each token but the first is predicted once
    and no position is padding, but in the last window.

    Args:
        encoder, paragraphs, counts, window, most, measured: as of `cut_text`.

    Returns:
        S windows of W tokens.
    """
    sizes = np.append(counts - 1, 1)  # a paragraph and the separator before it; the last one alone
    begins, total = np.cumsum(sizes) - sizes, int(sizes.sum())
    start_S = _some(np.arange(0, total - 1, window - 1), most)
    length_S = np.minimum(window, total - start_S)
    index_SW = np.minimum(start_S[:, None] + np.arange(window), total - 1)
    chosen = _touched(begins, start_S, start_S + length_S - 1)
    if len(chosen) < len(counts):
        # Where a position lies in the stream of the chosen paragraphs alone.
        kept = np.append(chosen, len(counts))
        moved = np.zeros_like(begins)
        moved[kept] = begins[kept] - (np.cumsum(sizes[kept]) - sizes[kept])
        index_SW -= moved[np.searchsorted(begins, index_SW, "right") - 1]
    tokens = _stream(encoder.tokens(paragraphs, chosen), encoder.end)
    real_SW = np.arange(window) < length_S[:, None]
    sequences = Sequences(
        torch.from_numpy(np.where(real_SW, tokens[index_SW], PAD)),
        torch.from_numpy(length_S),
        torch.ones(len(length_S), dtype=torch.int64),
    )
    if not measured or not isinstance(encoder, Subwords):
        return sequences
    spans = _stream(Tokens(encoder.byte_counts(paragraphs, chosen), counts[chosen]), 0)
    real_SW[:, 0] = False
    return replace(sequences, scored_bytes=int(spans[index_SW][real_SW].sum()))


def _touched(begins: Integers, first_S: Integers, last_S: Integers) -> Integers:
    """Name the paragraphs in which windows from `first_S` to `last_S` have a token."""
    change = np.zeros(len(begins) + 1, np.int64)
    np.add.at(change, np.searchsorted(begins, first_S, "right") - 1, 1)
    np.add.at(change, np.searchsorted(begins, last_S, "right"), -1)
    return np.flatnonzero(np.cumsum(change)[: len(begins) - 1])


def _stream(tokens: Tokens, separator: int) -> Integers:
    """Put framed paragraphs end to end, one separator before each and behind the last."""
    ends = np.cumsum(tokens.counts)
    stream = tokens.flat.copy()
    stream[ends - tokens.counts] = separator
    return np.append(np.delete(stream, ends - 1), separator)


def cut(tokens: Tokens, window: int, stride: int, most: int = 0) -> Sequences:
    """Cut paragraphs into windows that start at 0, stride, 2 * stride, ... of each.

    A paragraph of n tokens has windows as long as one predicts a token that the one before did
    not: 1 + ceil((n - window) / stride), at least 1. Window k > 0 is scored from the target
    `window - stride` on: the one before ends at token (k - 1) * stride + window - 1, so that is
    the first new one, and it has window - stride tokens of context.

    Args:
        tokens: the paragraphs, each of 2 tokens or more.
        window: W, tokens a window, padded.
        stride: tokens from one start to the next, below W.
        most: a fixed random subset of this many windows, in the text's order; 0 takes all.

    Returns:
        S windows of W tokens.
    """
    paragraph, number = _choose(tokens.counts, window, stride, most)
    return _taken(tokens, paragraph, number, window, stride)


def _choose(counts: Integers, window: int, stride: int, most: int) -> tuple[Integers, Integers]:
    """Choose windows: the paragraph of each, and its number in that."""
    windows = 1 + np.maximum(0, -((window - counts) // stride))
    paragraph = np.repeat(np.arange(len(windows)), windows)
    first = np.cumsum(windows) - windows
    number = np.arange(len(paragraph)) - first[paragraph]
    chosen = _some(np.arange(len(paragraph)), most)
    return paragraph[chosen], number[chosen]


def _some(windows: Integers, most: int) -> Integers:
    """Choose so many at random, always the same ones, in their order; 0 takes all."""
    if not 0 < most < len(windows):
        return windows
    return windows[np.sort(np.random.default_rng(_SEED).permutation(len(windows))[:most])]


def _taken(
    tokens: Tokens, paragraph: Integers, number: Integers, window: int, stride: int
) -> Sequences:
    begins = np.cumsum(tokens.counts) - tokens.counts
    start_S = begins[paragraph] + number * stride
    length_S = np.minimum(window, tokens.counts[paragraph] - number * stride)
    offset_W = np.arange(window)
    index_SW = np.minimum(start_S[:, None] + offset_W, len(tokens.flat) - 1)
    tokens_SW = np.where(offset_W < length_S[:, None], tokens.flat[index_SW], PAD)
    from_S = np.where(number > 0, window - stride, 1)
    return Sequences(
        torch.from_numpy(tokens_SW), torch.from_numpy(length_S), torch.from_numpy(from_S)
    )
