"""`context_vector` as one would first write it: every layer and head at every position.

What the fast form must equal, and what its speed and memory are measured against.
Shape suffixes: B batch, T position, E embedding, H hidden, C context, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.models.context_vector import ContextVector

LIMIT = 10.0


class PlainContextVector(nn.Module):
    """The module of the design, autograd doing the rest."""

    def __init__(
        self,
        vocabulary_size: int,
        embed: int = 256,
        hidden: int = 512,
        layers: int = 6,
        context: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.context = context
        self.embedding = nn.Embedding(vocabulary_size, embed)
        sizes = [embed + context, *[hidden] * layers]
        self.mlp = nn.Sequential(
            *(
                module
                for size in sizes[:-1]
                for module in (nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(dropout))
            )
        )
        self.token = nn.Linear(hidden, vocabulary_size)
        self.delta = nn.Linear(hidden, context)
        self.forget = nn.Linear(hidden, context)
        self.input = nn.Linear(hidden, context)
        self.norm = nn.LayerNorm(context)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits of every position, padding too: (B, T, V)."""
        context_BC = torch.zeros(len(tokens_BT), self.context, device=tokens_BT.device)
        logits = []
        for token_B in tokens_BT.unbind(1):
            hidden_BH = self.mlp(torch.cat((self.embedding(token_B), context_BC), dim=1))
            logits.append(self.token(hidden_BH))
            forget_BC, input_BC = self.forget(hidden_BH).sigmoid(), self.input(hidden_BH).sigmoid()
            mixed_BC = forget_BC * context_BC + input_BC * self.delta(hidden_BH)
            context_BC = self.norm(mixed_BC).clamp(-LIMIT, LIMIT)
        return torch.stack(logits, dim=1)

    def nats(self, tokens_BT: Tensor) -> Tensor:
        """The loss of a batch, padding (0) left out, summed over its targets."""
        logits_BTV = self(tokens_BT[:, :-1])
        return F.cross_entropy(
            logits_BTV.flatten(0, 1), tokens_BT[:, 1:].flatten(), ignore_index=0, reduction="sum"
        )

    def linears(self) -> list[nn.Linear]:
        """The MLP's Linears."""
        return [module for module in self.mlp if isinstance(module, nn.Linear)]

    @torch.no_grad()
    def take(self, fast: ContextVector) -> None:
        """Takes the fast form's weights over."""
        for ours, theirs in self.pairs(fast, *(dict(m.named_parameters()) for m in (self, fast))):
            ours.copy_(theirs)

    def pairs(
        self, fast: ContextVector, ours: dict[str, Tensor], theirs: dict[str, Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """Parameters, or anything named and shaped like them, beside the fast form's.

        Args:
            fast: the other model.
            ours: by our names.
            theirs: by the fast form's names.
        """
        first = torch.cat((theirs["from_token.weight"], theirs["from_context.weight"]), dim=1)
        pairs = [(ours["mlp.0.weight"], first), (ours["mlp.0.bias"], theirs["from_token.bias"])]
        for kind in ("weight", "bias"):
            for number in range(len(fast.mlp)):
                here = f"mlp.{3 * (number + 1)}.{kind}"
                pairs.append((ours[here], theirs[f"mlp.{number}.{kind}"]))
            gates = theirs[f"gates.{kind}"].chunk(3)
            for name, gate in zip(("forget", "input", "delta"), gates, strict=True):
                pairs.append((ours[f"{name}.{kind}"], gate))
            pairs.append((ours[f"norm.{kind}"], theirs[f"norm.{kind}"]))
            pairs.append((ours[f"token.{kind}"], theirs[f"head.{kind}"]))
        pairs.append((ours["embedding.weight"], theirs["embedding.weight"]))
        assert len(pairs) == len(ours)
        return pairs
