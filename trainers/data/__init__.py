"""Text in, windows of token numbers out: the corpus a study trains on."""

from trainers.data.corpus import Corpus, Sequences
from trainers.data.loading import (
    build_corpus,
    load_corpus,
    take_corpus,
)
from trainers.data.paragraphs import Paragraphs, in_units, split_units
from trainers.data.sources import source_bytes, source_fingerprint
from trainers.data.subwords import tokenizer_content
from trainers.naming import is_function

__all__ = [
    "Corpus",
    "Paragraphs",
    "Sequences",
    "build_corpus",
    "in_units",
    "is_function",
    "load_corpus",
    "source_bytes",
    "source_fingerprint",
    "split_units",
    "take_corpus",
    "tokenizer_content",
]
