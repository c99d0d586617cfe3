"""A standard pre-norm transformer, as GPT-2 (Radford et al., 2019) and nanoGPT.

Shape suffixes: B batch, T position, N packed position (every real one of a batch), W width,
A heads, D width of a head, V vocabulary.
"""

from typing import Annotated

from pydantic import Field, validate_call
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

WEIGHT_STD = 0.02

Size = Annotated[int, Field(gt=0, strict=True)]


class Block(nn.Module):
    """Attention and an MLP of four times the width, each added to the residual stream.

    The stream and the LayerNorms are FP32 islands: CPU autocast, unlike CUDA's, leaves
    `layer_norm` in its input's type.
    """

    def __init__(self, width: int, heads: int, p: float) -> None:
        super().__init__()
        self.heads = heads
        self.p = p
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)

    def forward(self, x_BTW: Tensor) -> Tensor:
        """Return the residual stream after this block, (B, T, W) in FP32."""
        x_BTW = x_BTW + self._drop(self._attention(self.attention_norm(x_BTW)))
        inner = F.gelu(self.mlp_in(self.mlp_norm(x_BTW)))
        return x_BTW + self._drop(self.mlp_out(inner))

    def _attention(self, x_BTW: Tensor) -> Tensor:
        heads = self.query_key_value(x_BTW).unflatten(2, (3, self.heads, -1))
        query_BATD, key_BATD, value_BATD = heads.transpose(1, 3).unbind(2)
        mixed_BATD = F.scaled_dot_product_attention(
            query_BATD,
            key_BATD,
            value_BATD,
            dropout_p=self.p if self.training else 0.0,
            is_causal=True,
        )
        mixed: Tensor = self.attention_out(mixed_BATD.transpose(1, 2).flatten(2))
        return mixed

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)


class GPT(nn.Module):
    """Learned positions, pre-norm blocks, an untied head without bias."""

    def __init__(
        self, vocabulary_size: int, width: int, layers: int, heads: int, p: float, context: int
    ) -> None:
        super().__init__()
        self.p = p
        self.context = context
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.positions = nn.Embedding(context, width)
        blocks = [Block(width, heads, p) for _ in range(layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary_size, bias=False)
        self.apply(_initialise)
        for block in blocks:
            # GPT-2 section 2.3: the stream's variance must not grow with the depth.
            for linear in (block.attention_out, block.mlp_out):
                nn.init.normal_(linear.weight, std=WEIGHT_STD / (2 * layers) ** 0.5)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Predict each position's next token: logits_BTV."""
        logits_BTV: Tensor = self.head(self._hidden(tokens_BT))
        return logits_BTV

    def features(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Compute hidden_NW as `trainers.models.FastModel` states."""
        return pack_padded_sequence(self._hidden(tokens_BT), lengths_B, batch_first=True).data

    def _hidden(self, tokens_BT: Tensor) -> Tensor:
        length = tokens_BT.shape[1]
        if length > self.context:
            raise ValueError(
                f"model.options.context must be at least the {length} positions of a window, "
                f"got {self.context}"
            )
        x_BTW = self.embedding(tokens_BT) + self.positions.weight[:length]
        x_BTW = F.dropout(x_BTW, self.p, self.training)
        for block in self.blocks:
            x_BTW = block(x_BTW)
        normed_BTW: Tensor = self.norm(x_BTW)
        return normed_BTW


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=WEIGHT_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


@validate_call
def build(
    vocabulary_size: Size,
    *,
    width: Size = 256,
    layers: Size = 4,
    heads: Size = 4,
    dropout: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.1,
    context: Size = 1024,
) -> GPT:
    """Build the model.

    Args:
        vocabulary_size: tokens known.
        width: of the residual stream, a multiple of `heads`.
        layers: blocks.
        heads: attention heads.
        dropout: probability of a drop, of attention weights too.
        context: most positions in a row.

    Returns:
        The model. Weights are drawn from normal(0, 0.02), biases are zero.

    Raises:
        ValueError: `width` is no multiple of `heads`.
    """
    if width % heads:
        raise ValueError(f"width must be a multiple of heads ({heads}), got {width}")
    return GPT(vocabulary_size, width, layers, heads, dropout, context)
