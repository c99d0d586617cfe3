"""A gated recurrence without attention: a small vector carries the context.

Shape suffixes: B batch, T position, N packed position (every real one of a batch, in the order of
`pack_padded_sequence`), R rows still running at a position, E embedding, H hidden, C context,
G = 3 C gates, V vocabulary.
"""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field, validate_call
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

CONTEXT_LIMIT = 10.0
WEIGHT_STD = 0.02

Size = Annotated[int, Field(gt=0, strict=True)]


class ContextVector(nn.Module):
    """At each position an MLP reads the token and the context, and renews the context.

    hidden = MLP([embedding, context]); context = clamp(LayerNorm(forget * context + input * delta))

    The context is an FP32 island: it carries rounding errors from position to position.
    """

    def __init__(
        self, vocabulary_size: int, embed: int, hidden: int, layers: int, context: int, p: float
    ) -> None:
        super().__init__()
        self.p = p
        self.context = context
        self.embedding = nn.Embedding(vocabulary_size, embed)
        # Linear(embed + context, hidden) in two parts: the first needs no loop over positions.
        self.from_token = nn.Linear(embed, hidden)
        self.from_context = nn.Linear(context, hidden, bias=False)
        self.mlp = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers - 1))
        self.gates = nn.Linear(hidden, 3 * context)  # forget, input, delta
        self.norm = nn.LayerNorm(context)
        self.head = nn.Linear(hidden, vocabulary_size)
        self.apply(_initialise)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Predict each position's next token: logits_BTV, padding computed like any token."""
        rows, length = tokens_BT.shape
        lengths_B = torch.full((rows,), length)
        batch_sizes = torch.full((length,), rows)
        packed = PackedSequence(self.head(self.features(tokens_BT, lengths_B)), batch_sizes)
        return pad_packed_sequence(packed, batch_first=True)[0]

    def features(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Compute hidden_NH as `trainers.models.FastModel` states."""
        tokens = pack_padded_sequence(tokens_BT, lengths_B, batch_first=True)
        running = tokens.batch_sizes.tolist()
        steps = self.from_token(self.embedding(tokens.data)).split(running)
        context_RC = torch.zeros(running[0], self.context, device=tokens_BT.device)
        hidden: list[Tensor] = []
        for step_RH in steps:
            if hidden:
                rows = len(step_RH)
                context_RC = self._renew(_first(context_RC, rows), _first(hidden[-1], rows))
            hidden.append(self._mlp(step_RH + self.from_context(context_RC)))
        return torch.cat(hidden)

    def _mlp(self, x_RH: Tensor) -> Tensor:
        x_RH = F.dropout(F.relu(x_RH), self.p, self.training)
        for linear in self.mlp:
            x_RH = F.dropout(F.relu(linear(x_RH)), self.p, self.training)
        return x_RH

    def _renew(self, context_RC: Tensor, hidden_RH: Tensor) -> Tensor:
        gates_RG = self.gates(hidden_RH).float()
        open_R2C, delta_RC = gates_RG.split((2 * self.context, self.context), dim=1)
        forget_RC, input_RC = open_R2C.sigmoid().chunk(2, dim=1)
        normed_RC = self.norm(torch.addcmul(forget_RC * context_RC, input_RC, delta_RC))
        # clamp; its own backward takes four kernels to hardtanh's one
        return F.hardtanh(normed_RC, -CONTEXT_LIMIT, CONTEXT_LIMIT)


def _first(x: Tensor, rows: int) -> Tensor:
    return x if len(x) == rows else x[:rows]  # a slice's backward fills the whole tensor


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=WEIGHT_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


@validate_call
def build(
    vocabulary_size: Size,
    *,
    embed: Size = 256,
    hidden: Size = 512,
    layers: Size = 6,
    context: Size = 256,
    dropout: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.1,
) -> ContextVector:
    """Build the model: 2,739,432 parameters by default at a vocabulary of 1,000.

    Args:
        vocabulary_size: tokens known.
        embed: size of a token's embedding.
        hidden: width of the MLP.
        layers: times (Linear, ReLU, Dropout) in the MLP.
        context: size of the context vector.
        dropout: probability with which a hidden value is dropped in training.

    Returns:
        The model. Weights are drawn from normal(0, 0.02), biases are zero.
    """
    return ContextVector(vocabulary_size, embed, hidden, layers, context, dropout)


advanced = partial(build, layers=12, context=512)
"""The larger one, "trainers.models.context_vector:advanced"; its other options as of `build`."""
