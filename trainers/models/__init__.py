"""Models, found by their file: `gpt` is `trainers.models.gpt:build`. There is no registry.

A model file offers `build(vocabulary_size, **options) -> nn.Module`; a user's own
"package.module:factory" or entry point (group `sweep.models`) is called the same way, and
"transformers:gpt2" is a causal model of the `transformers` package (`_transformers.py`). There are
three contracts:

- plain (`PlainModel`): `module(tokens_BT) -> logits_BTV`, causal. Any such `nn.Module` trains.
- fast (`FastModel`): in addition `features` and `head`. No logits are then computed for padding,
  and never all of them at once; what the model itself computes there is its own affair.
- stacked (`StackedModel`): computes K members' parameters at once; the others come with it. A
  cohort of any other model is trained one member after another.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeGuard

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trainers.config import DataConfig, ModelConfig
from trainers.errors import TrainerError
from trainers.finding import Kind, files_of
from trainers.models import _transformers
from trainers.models._stacked import StackedModel
from trainers.refusals import refusal, shown

__all__ = [
    "MODELS",
    "FastModel",
    "PlainModel",
    "StackedModel",
    "build_model",
    "check_packing",
    "count_parameters",
    "has_features",
    "model_names",
    "parameter_count",
    "set_packing",
]


MODELS = Kind("model", "sweep.models", files_of(__name__, __path__, "build"))


class PlainModel(Protocol):
    """Contract of every model."""

    def __call__(self, tokens_BT: Tensor, /) -> Tensor:
        """Predict each position's next token.

        Args:
            tokens_BT: int64, rows padded with 0 at their end.

        Returns:
            Logits, (B, T, V). Those of a position depend on no later one; those at padding are
            never read.
        """
        ...


class FastModel(PlainModel, Protocol):
    """Contract of a model that leaves out padding and lets the trainer apply its head."""

    head: nn.Linear

    def features(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Compute what `head` turns into logits, at real positions only.

        Args:
            tokens_BT: int64, rows sorted by decreasing length, padded with 0 at their end.
            lengths_B: int64 on the CPU, real positions of each row, at least 1.

        Returns:
            hidden_NH, all rows' first positions, then all second ones, and so on: the order of
            `torch.nn.utils.rnn.pack_padded_sequence(..., batch_first=True).data`.
        """
        ...


def has_features(model: nn.Module) -> TypeGuard[FastModel]:
    """Tell whether a model keeps the fast contract, not only the plain one."""
    return isinstance(getattr(model, "head", None), nn.Linear) and callable(
        getattr(model, "features", None)
    )


def model_names() -> list[str]:
    """Names of the built-in models: the files of this package."""
    return sorted(MODELS.built_in)


def build_model(config: ModelConfig, vocabulary_size: int) -> nn.Module:
    """Build a model on the current default device, with freshly drawn weights.

    Args:
        config: the model's name or import path, and its options.
        vocabulary_size: tokens the model knows, and logits a position.

    Returns:
        The model, in training mode.

    Raises:
        TrainerError: the model or an option is unknown, an option's value is refused, or what the
            factory returned is no `nn.Module`.
    """
    factory = _factory(config.name)
    _check_options(config, factory)
    try:
        model = factory(vocabulary_size, **config.options)
    except ValidationError as error:
        raise TrainerError(f"model {config.name}: {' '.join(refusal(error)).strip()}") from None
    except TrainerError:
        raise
    except (TypeError, ValueError) as error:
        raise TrainerError(f"model {config.name} cannot be built: {error}") from error
    if not isinstance(model, nn.Module):
        raise TrainerError(
            f"model {config.name} must return a torch.nn.Module, it returned a "
            f"{type(model).__name__}"
        )
    return model


def set_packing(model: nn.Module, config: ModelConfig, separator: int, attend: str) -> None:
    """Tell a model how to attend in windows of several documents, before it is used.

    A model that can attend within documents has a method `attend_within_documents(separator)`: from
    then on no position sees a token before the last separator at or before it, and positions are
    counted from there, so that a document is computed as if it stood alone. A model whose `packs`
    is False takes no such windows at all.

    Args:
        model: by `build_model`.
        config: of it.
        separator: the number of the token that begins each document.
        attend: "document", or "window": as it would in any text.

    Raises:
        TrainerError: the model cannot.
    """
    if not getattr(model, "packs", True):
        raise TrainerError(
            f"model {config.name} would carry its context from one document into the next: "
            "data.pack = true is for gpt and transformers models"
        )
    if attend == "window":
        return
    within = getattr(model, "attend_within_documents", None)
    if within is None:
        raise TrainerError(
            f"model {config.name} cannot attend within documents (it has no method "
            'attend_within_documents): set data.attend = "window", or data.pack = false'
        )
    within(separator)


def check_packing(config: ModelConfig, data: DataConfig) -> None:
    """Refuse a model that cannot take packed windows, before any text is read.

    Raises:
        TrainerError: as of `set_packing`.
    """
    if data.pack:
        model = _thrown_away(config, data.vocabulary_size)
        set_packing(model, config, data.vocabulary_size - 1, data.attend)


def parameter_count(module: nn.Module) -> int:
    """Trained parameters, shared ones counted once."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def count_parameters(config: ModelConfig, vocabulary_size: int) -> int:
    """Count a model's parameters, without taking their memory where the model allows it.

    Args:
        config: as of `build_model`.
        vocabulary_size: as of `build_model`.

    Returns:
        What `parameter_count(build_model(config, vocabulary_size))` returns.

    Raises:
        TrainerError: as of `build_model`.
    """
    return parameter_count(_thrown_away(config, vocabulary_size))


def _thrown_away(config: ModelConfig, vocabulary_size: int) -> nn.Module:
    try:
        with torch.device("meta"), _Undrawn():
            return build_model(config, vocabulary_size)
    except (TrainerError, RuntimeError, NotImplementedError):
        # A factory may read its weights' values, which meta tensors have not.
        return build_model(config, vocabulary_size)


class _Undrawn(TorchFunctionMode):
    """Draws no normal numbers: without values to draw, PyTorch would load its compiler for them."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func in (nn.init.normal_, Tensor.normal_):
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def _factory(name: str) -> Callable[..., Any]:
    if name.startswith(_transformers.PREFIX):
        return _transformers.factory(name)
    return MODELS.find(name)


def _check_options(config: ModelConfig, factory: Callable[..., Any]) -> None:
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):  # a callable written in C tells no signature
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    # The first one is the vocabulary's size.
    known = [p.name for p in parameters[1:] if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for option in config.options:
        if option not in known:
            raise TrainerError(
                f'model {config.name} has no option "{option}"{_nearest(option, known)}; '
                f"it has {', '.join(known) or 'none'}"
            )
    for parameter in parameters[1:]:
        _check_kind(config, parameter)


def _check_kind(config: ModelConfig, parameter: inspect.Parameter) -> None:
    """Refuses text for a number or a truth, which Python would take: "no" counts as true.

    What an option must be is said by its annotation, else by its default.
    """
    if parameter.name not in config.options:
        return
    value, named = config.options[parameter.name], parameter.annotation
    whole = getattr(named, "__origin__", named)  # of Annotated[int, ...]
    said = whole if isinstance(whole, str) else getattr(whole, "__name__", "")
    kind = {"bool": bool, "int": int, "float": float, "str": str}.get(said, type(parameter.default))
    words = {bool: "true or false", int: "a number", float: "a number", str: "text"}.get(kind)
    numbers = kind in (int, float) and type(value) in (int, float)
    if words and not numbers and type(value) is not kind:
        words = "a whole number" if said == "int" else words
        raise TrainerError(
            f"model {config.name}: {parameter.name} must be {words}, got {shown(value)}"
        )


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f' (did you mean "{near[0]}"?)' if near else ""
