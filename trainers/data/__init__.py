"""Text in, windows of token numbers out: the corpus a study trains on."""

from trainers.data.corpus import Corpus, Sequences
from trainers.data.loading import build_corpus, load_corpus, source_fingerprint, take_corpus

__all__ = [
    "Corpus",
    "Sequences",
    "build_corpus",
    "load_corpus",
    "source_fingerprint",
    "take_corpus",
]
