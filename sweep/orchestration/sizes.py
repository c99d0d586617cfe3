"""A model in other sizes: the options that give it about so many parameters."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from types import MappingProxyType

from sweep.errors import SweepError
from trainers.config import ModelConfig
from trainers.models import count_parameters

# Options that grow together as the model does; its depth stays.
SIZES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"gpt": ("width",), "context_vector": ("embed", "hidden", "context")}
)
FURTHEST = 2.0**10  # of an option, as a factor
HALVINGS = 24  # of the factor's interval


def can_resize(model: ModelConfig) -> bool:
    """Whether it is known how a model is made larger."""
    return model.name in SIZES and all(name in model.options for name in SIZES[model.name])


def resized(model: ModelConfig, vocabulary_size: int, parameters: float) -> ModelConfig:
    """The model in about another size; the same depth, heads and vocabulary.

    Args:
        model: to start from.
        vocabulary_size: tokens known.
        parameters: that are wanted.

    Returns:
        Of the sizes that there are, the one whose parameters are nearest, as a ratio.

    Raises:
        SweepError: it is not known how this model is made larger.
    """
    if not can_resize(model):
        raise SweepError(
            f"model {model.name}: it is not known which of its options make it larger "
            f"({', '.join(SIZES)} can be resized): leave --params out"
        )
    count = functools.cache(lambda scale: count_parameters(_scaled(model, scale), vocabulary_size))
    low, high = 1.0 / FURTHEST, FURTHEST
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if count(middle) < parameters else (low, middle)
    nearest = min((low, high), key=lambda scale: abs(math.log(count(scale) / parameters)))
    return _scaled(model, nearest)


def _scaled(model: ModelConfig, scale: float) -> ModelConfig:
    # A width is a multiple of the heads.
    unit = int(model.options.get("heads", 1))
    options = {
        name: max(unit, unit * round(float(model.options[name]) * scale / unit))
        for name in SIZES[model.name]
    }
    return dataclasses.replace(model, options={**model.options, **options})
