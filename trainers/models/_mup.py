"""Maximal update parametrization: a rate that is good at one width is good at all (muP).

Yang et al. 2022 (arXiv 2203.03466), table 8, for Adam; the depth's part is CompleteP's with alpha 1
(Dey et al. 2025, arXiv 2505.01618, table 1). With m = width / base width, l = layers / base layers:

| parameter | weights at the start | rate | AdamW's decay | Adam's eps |
|---|---|---|---|---|
| embeddings | as ever | as ever | as ever | / m |
| hidden matrices | standard deviation / sqrt(m) | / m | x m | / m / l |
| biases and norms of blocks | as ever | as ever | as ever | / m / l |
| head, and what comes last | as ever, its input / m | as ever | as ever | as ever |

A block's branches are divided by l, and attention by the width of a head and not by its root.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Factors on what an optimizer does with a parameter.

    Attributes:
        rate: on its learning rate.
        decay: on its decoupled weight decay, so that rate x decay stays.
        eps: on Adam's eps, as its gradient is smaller by that.
    """

    rate: float = 1.0
    decay: float = 1.0
    eps: float = 1.0


PLAIN = Scale()


@dataclass(frozen=True, slots=True)
class Parametrization:
    """How a model's sizes enter its start, its forward pass and its steps.

    Attributes:
        width: m, the width over the base width.
        depth: l, the layers over the base layers.
        mup: whether it is muP; the standard one scales nothing.
    """

    width: float = 1.0
    depth: float = 1.0
    mup: bool = False

    def scale(self, name: str, dimensions: int) -> Scale:
        """A parameter's factors, by its name in `trainers.models.gpt` and its dimensions."""
        if not self.mup or name.startswith(("head.", "norm.")):
            return PLAIN
        if not name.startswith("blocks."):
            return Scale(eps=1 / self.width)
        eps = 1 / (self.width * self.depth)
        if dimensions < 2:
            return Scale(eps=eps)
        return Scale(rate=1 / self.width, decay=self.width, eps=eps)

    def attention(self, head_width: int) -> float | None:
        """The factor on query times key; None is the usual one, 1 / sqrt(head_width)."""
        # Equal to the usual one at the base width: the number of heads stays.
        return (head_width / self.width) ** 0.5 / head_width if self.mup else None
