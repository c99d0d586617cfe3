"""Causal models of the `transformers` package by name: "transformers:gpt2", "transformers:llama".

They are built from their configuration alone, with freshly drawn weights: nothing is downloaded.
The options are the configuration's own keys; what the text decides (the vocabulary's size, the
special tokens) is none of them. Rows are padded at their end and the models are causal, so that no
attention mask is needed.

Shape suffixes: B batch, T position, N packed position, H hidden, V vocabulary.
"""

import difflib
import importlib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from trainers.errors import TrainerError
from trainers.models._stacked import document_begins

PREFIX = "transformers:"
PAD, BOS, EOS = 0, 2, 3
"""Of `trainers.data.vocabulary`."""
GIVEN = {"vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "use_cache", "dtype"}
"""Keys of a configuration that are not the user's."""
PROBE = 8  # tokens
ALIKE = 1e-5  # of the largest logit: FP32's rounding over another order of sums


class TransformersModel(nn.Module):
    """Keeps the plain contract of `trainers.models`."""

    def __init__(self, inner: nn.Module, longest: int | None) -> None:
        super().__init__()
        self.inner = inner
        self.longest = longest
        self.separator: int | None = None

    def attend_within_documents(self, separator: int) -> None:
        """See `trainers.models.set_packing`.

        `transformers` keeps apart what its positions, counted anew from each separator, tell apart.

        Raises:
            TrainerError: this model does not.
        """
        self.separator = separator
        inner: Any = self.inner
        if not next(inner.parameters()).is_meta and not self._keeps_apart(
            inner.get_input_embeddings().num_embeddings
        ):
            kind = type(self.inner).__name__
            raise TrainerError(
                f"{kind} of transformers cannot attend within documents: set data.attend = "
                '"window", or data.pack = false'
            )

    def _keeps_apart(self, vocabulary_size: int) -> bool:
        """Whether a document's logits are the same behind another one and alone."""
        assert self.separator is not None
        tokens_BT = _probe_tokens(self.inner, vocabulary_size)
        half = PROBE // 2
        tokens_BT[tokens_BT == self.separator] = (self.separator + 1) % vocabulary_size
        tokens_BT[:, half] = self.separator
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                behind, alone = self(tokens_BT)[:, half:], self(tokens_BT[:, half:])
        except (TypeError, ValueError):  # it takes no positions
            return False
        finally:
            self.train(training)
        return _alike(behind, alone)

    def _positions(self, tokens_BT: Tensor) -> dict[str, Tensor]:
        """Of each token in its document; none where the model is to count by itself."""
        if self.separator is None:
            return {}
        position_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        return {"position_ids": position_T - document_begins(tokens_BT, self.separator)}

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Predict each position's next token: logits_BTV."""
        self._check(tokens_BT)
        positions = self._positions(tokens_BT)
        logits_BTV: Tensor = self.inner(input_ids=tokens_BT, use_cache=False, **positions).logits
        return logits_BTV

    def _check(self, tokens_BT: Tensor) -> None:
        if self.longest is not None and tokens_BT.shape[1] > self.longest:
            raise ValueError(
                f"the model's max_position_embeddings must be at least the {tokens_BT.shape[1]} "
                f"positions of a window, got {self.longest}"
            )


class FastTransformersModel(TransformersModel):
    """Keeps the fast contract: its logits are one linear head on what its base computes."""

    @property
    def head(self) -> nn.Linear:
        """The layer that turns features into logits."""
        head: nn.Linear = _head(self.inner)
        return head

    def features(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Compute hidden_NH as `trainers.models.FastModel` states."""
        self._check(tokens_BT)
        hidden_BTH = _hidden(self.inner, tokens_BT, self._positions(tokens_BT))
        return pack_padded_sequence(hidden_BTH, lengths_B, batch_first=True).data


def factory(name: str) -> Callable[..., nn.Module]:
    """The factory behind "transformers:KIND".

    Raises:
        TrainerError: `transformers` is not installed, or has no such causal model.
    """
    try:
        transformers = importlib.import_module("transformers")
        auto = importlib.import_module("transformers.models.auto.modeling_auto")
    except ImportError:
        raise TrainerError(
            f"model \"{name}\" needs transformers: pip install 'lr-sweep[transformers]'"
        ) from None
    # What it has to say of a fresh model concerns pretrained ones.
    logging.getLogger("transformers").setLevel(logging.ERROR)
    kind, kinds = name.removeprefix(PREFIX), list(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    if kind not in kinds:
        near = difflib.get_close_matches(kind, kinds, n=1)
        hint = f'did you mean "{PREFIX}{near[0]}"?' if near else 'one is "transformers:gpt2"'
        raise TrainerError(f'transformers has no causal model "{kind}": {hint}')
    return partial(_build, transformers, kind)


def _build(transformers: Any, kind: str, vocabulary_size: int, **options: Any) -> nn.Module:
    name = f"{PREFIX}{kind}"
    try:
        known = transformers.AutoConfig.for_model(kind)
        _check_options(name, known, options)
        text = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
        config = transformers.AutoConfig.for_model(
            kind, **options, **text, vocab_size=vocabulary_size
        )
        inner = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except (TrainerError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a foreign package's configuration may refuse in any way
        reason = " ".join(str(error).split())
        raise TrainerError(f"model {name} cannot be built: {reason}") from error
    inner.train()
    for module in inner.modules():
        if isinstance(module, nn.Embedding):
            # Published tokenizers have a token 0, which is to be learned; padding has no gradient.
            module.padding_idx = None
    longest = getattr(config, "max_position_embeddings", None)
    if next(inner.parameters()).is_meta:  # it is only counted
        return TransformersModel(inner, longest)
    _check_causal(name, inner, vocabulary_size)
    fast = _has_linear_head(inner, vocabulary_size)
    return (FastTransformersModel if fast else TransformersModel)(inner, longest)


def _check_options(name: str, config: Any, options: dict[str, Any]) -> None:
    keys = {key for key in config.to_dict() if not key.startswith("_")} | set(config.attribute_map)
    for option in options:
        if option in GIVEN:
            raise TrainerError(f'model {name}: "{option}" is not an option: the text decides it')
        if option not in keys:
            near = difflib.get_close_matches(option, sorted(keys - GIVEN), n=1)
            hint = f' (did you mean "{near[0]}"?)' if near else ""
            raise TrainerError(f'model {name} has no option "{option}"{hint}')


def _check_causal(name: str, inner: nn.Module, vocabulary_size: int) -> None:
    """Refuses a model that sees later tokens: its perplexity would mean nothing."""
    tokens_BT = _probe_tokens(inner, vocabulary_size)
    half = PROBE // 2
    changed_BT = tokens_BT.clone()
    changed_BT[:, half:] = (changed_BT[:, half:] + 1) % vocabulary_size
    first, second = (_evaluated(inner, tokens)[:, :half] for tokens in (tokens_BT, changed_BT))
    if not _alike(first, second):
        raise TrainerError(
            f"model {name} is not causal: a position's logits depend on later tokens. Some models "
            "have an option for it, such as is_decoder = true"
        )


def _has_linear_head(inner: nn.Module, vocabulary_size: int) -> bool:
    """Whether the logits are a linear layer on the base's output, and nothing more."""
    head = _head(inner)
    if not isinstance(head, nn.Linear):
        return False
    tokens_BT = _probe_tokens(inner, vocabulary_size)
    expected_BTV = _evaluated(inner, tokens_BT)
    inner.eval()
    try:
        with torch.no_grad():
            found_BTV = head(_hidden(inner, tokens_BT))
    except (AttributeError, TypeError, RuntimeError):  # a base that is called in another way
        return False
    finally:
        inner.train()
    return found_BTV.shape == expected_BTV.shape and _alike(found_BTV, expected_BTV)


def _evaluated(inner: nn.Module, tokens_BT: Tensor) -> Tensor:
    inner.eval()
    with torch.no_grad():
        logits_BTV: Tensor = inner(input_ids=tokens_BT, use_cache=False).logits
    inner.train()
    return logits_BTV


def _hidden(
    inner: Any, tokens_BT: Tensor, positions: Mapping[str, Tensor] = MappingProxyType({})
) -> Tensor:
    hidden_BTH: Tensor = inner.base_model(input_ids=tokens_BT, use_cache=False, **positions)[0]
    return hidden_BTH


def _head(inner: Any) -> Any:
    return inner.get_output_embeddings()


def _probe_tokens(inner: nn.Module, vocabulary_size: int) -> Tensor:
    device = next(inner.parameters()).device
    return torch.arange(2 * PROBE, device=device).view(2, PROBE) * 7 % vocabulary_size


def _alike(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() <= ALIKE * second.abs().max())
