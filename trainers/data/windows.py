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
    if 0 < most < len(paragraph):
        chosen = np.sort(np.random.default_rng(_SEED).permutation(len(paragraph))[:most])
        paragraph, number = paragraph[chosen], number[chosen]
    return paragraph, number


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
