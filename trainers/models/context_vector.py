"""A gated recurrence without attention: a small vector carries the context.

Shape suffixes: K members, B batch, T position, N packed position (every real one of a batch, in
the order of `pack_padded_sequence`), E embedding, H hidden.
"""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field, validate_call
from torch import Tensor, nn

from trainers.kernels.dropout import Dropout
from trainers.kernels.graphs import recordings
from trainers.kernels.recurrence import recur
from trainers.kernels.recurrence_state import Weights
from trainers.models._stacked import (
    Stack,
    StackedModel,
    embed,
    initialise,
    linear,
    pack,
    real_positions,
    running,
)

Size = Annotated[int, Field(gt=0, strict=True)]


class ContextVector(StackedModel):
    """At each position an MLP reads the token and the context, and renews the context.

    hidden = MLP([embedding, context]); context = clamp(LayerNorm(forget * context + input * delta))

    The context is an FP32 island: it carries rounding errors from position to position.
    """

    one_shape = True
    packs = False

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
        self.apply(initialise)

    def stacked_features(
        self, weights: Stack, tokens_KBT: Tensor, lengths_B: Tensor, dropout: Dropout | None
    ) -> Tensor:
        """Compute hidden_KNH as `StackedModel` states."""
        full_B = torch.full_like(lengths_B, tokens_KBT.shape[2])
        if recordings.serve(tokens_KBT.device) and not torch.equal(lengths_B, full_B):
            # What is recorded has one shape, so padding is computed too: a tenth of WikiText-2's
            # positions, half of those of short paragraphs. Launches one by one take longer.
            hidden_KNH = self.stacked_features(weights, tokens_KBT, full_B, dropout)
            return hidden_KNH.index_select(1, real_positions(lengths_B, hidden_KNH.device))
        embedded_KNE = embed(pack(tokens_KBT, lengths_B), weights["embedding.weight"])
        x_KNH = linear(embedded_KNE, weights, "from_token")
        keep_KNLH = None
        if dropout is not None and self.p:
            layers, hidden = len(self.mlp) + 1, x_KNH.shape[2]
            size = (len(lengths_B), int(lengths_B[0]), layers, hidden)
            keep_KNLH = pack(dropout.keep(self.p, size, x_KNH.device), lengths_B)
        return recur(x_KNH, running(lengths_B), keep_KNLH, self.p, self._recurrence(weights))

    def _recurrence(self, weights: Stack) -> Weights:
        return Weights(
            weights["from_context.weight"],
            weights["gates.weight"],
            weights["gates.bias"],
            weights["norm.weight"],
            weights["norm.bias"],
            tuple(
                (weights[f"mlp.{layer}.weight"], weights[f"mlp.{layer}.bias"])
                for layer in range(len(self.mlp))
            ),
        )


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
