"""What models share that train K members in one forward and backward: a cohort.

A member's parameters are ordinary ones. A cohort stacks those of the same name along a first
dimension K, and the model computes with the stacks; a model alone is a cohort of one.

Shape suffixes: K members, B batch, T position, N packed position, H hidden.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from trainers.kernels.dropout import Dropout

Stack = Mapping[str, Tensor]
"""Parameters by name, each with a leading K."""


WEIGHT_STD = 0.02
"""Of every weight at the start, as in GPT-2."""


def initialise(module: nn.Module) -> None:
    """Draw a layer's weights from normal(0, WEIGHT_STD) and zero its bias, as GPT-2 does."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=WEIGHT_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def stack(models: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Stack members' parameters; gradients flow back to each member's own."""
    if len(models) == 1:
        return {name: parameter[None] for name, parameter in models[0].named_parameters()}
    parameters = [dict(model.named_parameters()) for model in models]
    return {name: torch.stack([own[name] for own in parameters]) for name in parameters[0]}


class StackedModel(nn.Module):
    """A model that computes K members at once; the fast and the plain contract come with it."""

    head: nn.Linear
    one_shape = False
    """Whether it is given whole windows, padded, where steps are recorded: a shape a recording."""

    packs = True
    """Whether its windows may hold several documents."""

    def stacked_features(
        self,
        weights: Stack,
        tokens_KBT: Tensor,
        lengths_B: Tensor,
        dropout: Dropout | None,
    ) -> Tensor:
        """Compute what the head turns into logits.

        Args:
            weights: of K members.
            tokens_KBT: int64, each member's own rows, padded to any length; rows sorted by
                decreasing length.
            lengths_B: int64 on the CPU, positions to compute of each row, for every member alike.
            dropout: None drops nothing.

        Returns:
            hidden_KNH, packed as `trainers.models.FastModel` states.
        """
        raise NotImplementedError

    def features(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Compute hidden_NH as `trainers.models.FastModel` states."""
        dropout = Dropout() if self.training else None
        return self.stacked_features(stack([self]), tokens_BT[None], lengths_B, dropout)[0]

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Predict each position's next token: logits_BTV, padding computed like any token."""
        rows, length = tokens_BT.shape
        lengths_B, batch_sizes = torch.full((rows,), length), torch.full((length,), rows)
        packed = PackedSequence(self.head(self.features(tokens_BT, lengths_B)), batch_sizes)
        return pad_packed_sequence(packed, batch_first=True)[0]


def running(lengths_B: Tensor) -> list[int]:
    """Rows at each position, of rows sorted by decreasing length."""
    position_T1 = torch.arange(int(lengths_B[0]))[:, None]
    rows: list[int] = (position_T1 < lengths_B).sum(1).tolist()
    return rows


def pack(x_KBT: Tensor, lengths_B: Tensor) -> Tensor:
    """Keep real positions only, x_KN or x_KNW of x_KBTW: position by position, row by row."""
    x_KM = x_KBT[:, :, : int(lengths_B[0])].transpose(1, 2).flatten(1, 2)
    return x_KM if all_equal(lengths_B) else x_KM[:, real_positions(lengths_B, x_KBT.device)]


def all_equal(lengths_B: Tensor) -> bool:
    """Tell whether rows sorted by decreasing length have no padding."""
    return bool(lengths_B[0] == lengths_B[-1])


def real_positions(lengths_B: Tensor, device: torch.device) -> Tensor:
    """Which positions are no padding, of all rows' first ones, then all second ones, and so on."""
    position_T1 = torch.arange(int(lengths_B[0]))[:, None]
    index_N = (position_T1 < lengths_B).flatten().nonzero()[:, 0]
    if device.type == "cuda":
        index_N = index_N.pin_memory()  # from other memory the copy waits for the device
    return index_N.to(device, non_blocking=True)


def document_begins(tokens: Tensor, separator: int) -> Tensor:
    """Where the document of each position begins in its row: at the last separator, or the row's.

    Args:
        tokens: int64, (..., T).
        separator: begins a document.
    """
    position_T = torch.arange(tokens.shape[-1], device=tokens.device)
    return torch.where(tokens == separator, position_T, 0).cummax(-1).values


def embed(tokens_KN: Tensor, weight_KVE: Tensor) -> Tensor:
    """Look each member's tokens up in its own table, of any shape between K and E."""
    members, vocabulary, _ = weight_KVE.shape
    if members == 1:
        return nn.functional.embedding(tokens_KN, weight_KVE[0])
    first_K = torch.arange(members, device=tokens_KN.device) * vocabulary
    first = first_K.view(-1, *[1] * (tokens_KN.dim() - 1))
    return nn.functional.embedding(tokens_KN + first, weight_KVE.flatten(0, 1))


def linear(x_KNI: Tensor, weights: Stack, name: str) -> Tensor:
    """Apply each member's own Linear of that name, (K, N, I) to (K, N, O)."""
    weight_KIO = weights[f"{name}.weight"].mT
    bias_KO = weights.get(f"{name}.bias")
    if bias_KO is None:
        return torch.bmm(x_KNI, weight_KIO)
    return torch.baddbmm(bias_KO[:, None], x_KNI, weight_KIO)
