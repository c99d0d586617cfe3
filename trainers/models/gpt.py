"""A standard pre-norm transformer, as GPT-2 (Radford et al., 2019) and nanoGPT.

Dropout as there, but for attention weights: they have none, so that masks can come from the
trainer's own stream and attention from torch's fused kernels.

Shape suffixes: K members, B batch, T position, P = B x T, N packed position (every real one of a
batch), W width, A heads, D width of a head.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field, validate_call
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from trainers.kernels.dropout import Dropout
from trainers.models._mup import Parametrization, Scale
from trainers.models._stacked import (
    WEIGHT_STD,
    Stack,
    StackedModel,
    document_begins,
    embed,
    initialise,
    linear,
    pack,
)
from trainers.precision.products import autocast_off, product_type

Size = Annotated[int, Field(gt=0, strict=True)]


class Block(nn.Module):
    """Holds the parameters of attention and of an MLP of four times the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)


class GPT(StackedModel):
    """Learned positions, pre-norm blocks, an untied head without bias.

    The residual stream and the LayerNorms are FP32 islands: CPU autocast, unlike CUDA's, leaves
    `layer_norm` in its input's type.
    """

    def __init__(
        self,
        vocabulary_size: int,
        width: int,
        layers: int,
        heads: int,
        p: float,
        context: int,
        parametrization: Parametrization,
        *,
        recompute: bool,
        fuse: bool,
    ) -> None:
        super().__init__()
        self.p = p
        self.recompute = recompute
        self._fused: Callable[..., Tensor] | None = torch.compile(self._block) if fuse else None
        self.parametrization = parametrization
        self.context = context
        self.separator: int | None = None
        self.heads = heads
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.positions = nn.Embedding(context, width)
        blocks = [Block(width) for _ in range(layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary_size, bias=False)
        self.apply(initialise)
        # GPT-2 section 2.3: the stream's variance must not grow with the depth.
        base_layers = layers / parametrization.depth
        out_std = WEIGHT_STD / (2 * base_layers * parametrization.width) ** 0.5
        for block in blocks:
            for inner in (block.query_key_value, block.mlp_in):
                inner.weight.data.div_(parametrization.width**0.5)
            for out in (block.attention_out, block.mlp_out):
                nn.init.normal_(out.weight, std=out_std)

    def scales(self) -> Mapping[str, Scale]:
        """What an optimizer scales, of each parameter by its name."""
        return {
            name: self.parametrization.scale(name, parameter.ndim)
            for name, parameter in self.named_parameters()
        }

    def attend_within_documents(self, separator: int) -> None:
        """See `trainers.models.set_packing`."""
        self.separator = separator

    def stacked_features(
        self, weights: Stack, tokens_KBT: Tensor, lengths_B: Tensor, dropout: Dropout | None
    ) -> Tensor:
        """Compute hidden_KNW as `StackedModel` states."""
        members, rows, length = tokens_KBT.shape
        if length > self.context:
            raise ValueError(
                f"model.options.context must be at least the {length} positions of a window, "
                f"got {self.context}"
            )
        x_KBTW = embed(tokens_KBT, weights["embedding.weight"])
        mask = None
        if self.separator is None:
            x_KBTW = x_KBTW + weights["positions.weight"][:, None, :length]
        else:
            begin_KBT = document_begins(tokens_KBT, self.separator)
            position_T = torch.arange(length, device=tokens_KBT.device)
            x_KBTW = x_KBTW + embed(position_T - begin_KBT, weights["positions.weight"])
            mask = _within_documents(begin_KBT.flatten(0, 1), _attention_type(x_KBTW))
        if (kept_KBTW := self._kept(x_KBTW, dropout)) is not None:
            x_KBTW = x_KBTW * kept_KBTW.to(x_KBTW.dtype).div_(1 - self.p)
        for number in range(len(self.blocks)):
            # Drawn here, so that a block that is computed twice drops the same twice.
            kept = self._kept(x_KBTW, dropout), self._kept(x_KBTW, dropout)
            block = partial(
                self._fused or self._block, weights=_of_block(weights, number), mask=mask, kept=kept
            )
            if self.recompute and torch.is_grad_enabled():
                x_KBTW = checkpoint(block, x_KBTW, use_reentrant=False, preserve_rng_state=False)
            else:
                x_KBTW = block(x_KBTW)
        normed_KPW = _norm(x_KBTW, weights, "norm")
        if self.parametrization.mup:
            normed_KPW = normed_KPW / self.parametrization.width
        return pack(normed_KPW.view(members, rows, length, -1), lengths_B)

    def _block(
        self,
        x_KBTW: Tensor,
        *,
        weights: Stack,
        mask: Tensor | None,
        kept: tuple[Tensor | None, Tensor | None],
    ) -> Tensor:
        x_KBTW = self._add(x_KBTW, self._attention(x_KBTW, weights, mask), kept[0])
        return self._add(x_KBTW, _mlp(x_KBTW, weights), kept[1])

    def _add(self, x_KBTW: Tensor, branch_KBTW: Tensor, kept_KBTW: Tensor | None) -> Tensor:
        """Adds what is kept of a branch to the residual stream."""
        if kept_KBTW is not None:
            branch_KBTW = branch_KBTW * kept_KBTW.to(branch_KBTW.dtype).div_(1 - self.p)
        depth = self.parametrization.depth
        return x_KBTW + (branch_KBTW if depth == 1 else branch_KBTW / depth)

    def _attention(self, x_KBTW: Tensor, weights: Stack, mask: Tensor | None) -> Tensor:
        normed_KPW = _norm(x_KBTW, weights, "attention_norm")
        all_KPW3 = _linear(normed_KPW, weights, "query_key_value").to(_attention_type(x_KBTW))
        members, rows, length, width = x_KBTW.shape
        split = all_KPW3.view(members * rows, length, 3, self.heads, width // self.heads)
        query, key, value = split.transpose(1, 3).unbind(2)  # each (K x B, A, T, D)
        scale = self.parametrization.attention(width // self.heads)
        with autocast_off(x_KBTW.device):
            mixed = F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale
            )
        mixed_KPW = mixed.transpose(1, 2).reshape(members, rows * length, width)
        return _linear(mixed_KPW, weights, "attention_out").view(x_KBTW.shape)

    def _kept(self, x_KBTW: Tensor, dropout: Dropout | None) -> Tensor | None:
        """Draws the next mask; None where nothing is dropped."""
        if dropout is None or not self.p:
            return None
        return dropout.keep(self.p, x_KBTW.shape[1:], x_KBTW.device)


def _within_documents(begin_BT: Tensor, type_: torch.dtype) -> Tensor:
    """What is added to scores, (B, 1, T, T): 0 in the own document up to itself, elsewhere -inf.

    As numbers: of a boolean mask each layer would make, and keep for its backward, its own.
    """
    position_T = torch.arange(begin_BT.shape[1], device=begin_BT.device)
    hidden_BTT = (position_T > position_T[:, None]) | (position_T < begin_BT[:, :, None])
    mask_BTT = torch.zeros(hidden_BTT.shape, dtype=type_, device=begin_BT.device)
    return mask_BTT.masked_fill_(hidden_BTT, -torch.inf)[:, None]


def _attention_type(x: Tensor) -> torch.dtype:
    """FP32 for BF16 on the CPU, whose fused attention takes twice FP32's time."""
    type_ = product_type(x)
    return torch.float32 if type_ is torch.bfloat16 and x.device.type == "cpu" else type_


def _of_block(weights: Stack, number: int) -> Stack:
    """A block's own weights: the names of one are those of all, so that all are one function."""
    prefix = f"blocks.{number}."
    return {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}


def _mlp(x_KBTW: Tensor, weights: Stack) -> Tensor:
    normed_KPW = _norm(x_KBTW, weights, "mlp_norm")
    inner = F.gelu(_linear(normed_KPW, weights, "mlp_in"))
    return _linear(inner, weights, "mlp_out").view(x_KBTW.shape)


def _linear(x_KPW: Tensor, weights: Stack, name: str) -> Tensor:
    """As `linear`; of one member by the kernel that reads a weight as it lies."""
    if len(x_KPW) > 1:
        return linear(x_KPW, weights, name)
    return F.linear(x_KPW[0], weights[f"{name}.weight"][0], weights[f"{name}.bias"][0])[None]


def _norm(x_KBTW: Tensor, weights: Stack, name: str) -> Tensor:
    """LayerNorm by each member's own weights, flattened to (K, P, W)."""
    if len(x_KBTW) == 1:  # one kernel in place of three
        own = weights[f"{name}.weight"][0], weights[f"{name}.bias"][0]
        return F.layer_norm(x_KBTW, x_KBTW.shape[3:], *own).flatten(1, 2)
    normed_KPW = F.layer_norm(x_KBTW, x_KBTW.shape[3:]).flatten(1, 2)
    weight_K1W, bias_K1W = weights[f"{name}.weight"][:, None], weights[f"{name}.bias"][:, None]
    return normed_KPW * weight_K1W + bias_K1W


@validate_call
def build(
    vocabulary_size: Size,
    *,
    width: Size = 256,
    layers: Size = 4,
    heads: Size = 4,
    dropout: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.1,
    context: Size = 1024,
    parametrization: Literal["standard", "mup"] = "standard",
    base_width: Size = 64,
    base_layers: Annotated[int, Field(ge=0, strict=True)] = 0,
    activation_checkpointing: Annotated[bool, Field(strict=True)] = False,
    compile_blocks: Annotated[bool, Field(strict=True)] = False,
) -> GPT:
    """Build the model.

    Args:
        vocabulary_size: tokens known.
        width: of the residual stream, a multiple of `heads`.
        layers: blocks.
        heads: attention heads.
        dropout: probability of a drop; attention weights have none.
        context: most positions in a row.
        parametrization: "standard", or "mup": a rate that is good at `base_width`, with as many
            heads, is good at every width; see `trainers.models._mup`. For adam and adamw.
        base_width: where "mup" is as the standard one.
        base_layers: likewise of the layers; 0 leaves the depth as the standard one has it.
        activation_checkpointing: keeps a block's input alone and computes the block again in the
            backward pass (Chen et al. 2016, arXiv 1604.06174): less memory, a third more time, the
            same result.
        compile_blocks: has torch.compile fuse a block's kernels: a minute at the start, for fp32,
            tf32 and bf16. With `data.pack`: a shape of its own is compiled for each kind of batch.

    Returns:
        The model. Weights are drawn from normal(0, 0.02), biases are zero.

    Raises:
        ValueError: `width` is no multiple of `heads`.
    """
    if width % heads:
        raise ValueError(f"width must be a multiple of heads ({heads}), got {width}")
    scaled = Parametrization()
    if parametrization == "mup":
        depth = layers / base_layers if base_layers else 1.0
        scaled = Parametrization(width / base_width, depth, mup=True)
    return GPT(
        vocabulary_size,
        width,
        layers,
        heads,
        dropout,
        context,
        scaled,
        recompute=activation_checkpointing,
        fuse=compile_blocks,
    )
