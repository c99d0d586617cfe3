"""What a member steps: an optimizer over the model's parameters, in groups by how they decay.

`OPTIMIZERS` has them by name; another one is a line there, and one of `arguments` where it takes
more than a rate. The user's own is a class, "package.module:Class", called with groups of
parameters, `lr` and `trainer.optimizer_options`.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.optim import Optimizer

from trainers.config import TrainConfig
from trainers.errors import TrainerError
from trainers.finding import Kind
from trainers.models._mup import PLAIN, Scale

Scales = Mapping[int, Scale]  # by a parameter's id()

OPTIMIZERS = Kind(
    "optimizer",
    "sweep.optimizers",
    {
        "adam": "torch.optim:Adam",
        "adamw": "torch.optim:AdamW",
        "muon": "torch.optim:Muon",
        "sgd": "torch.optim:SGD",
    },
)


@runtime_checkable
class Scaled(Protocol):
    """A model that scales what an optimizer does with its parameters."""

    def scales(self) -> Mapping[str, Scale]:
        """Of each parameter by its name; what is not named is not scaled."""
        ...


class Joined(Optimizer):
    """Several optimizers as one, whose groups are theirs, one optimizer's after another's.

    Scheduler, scaler and clipping see one optimizer: where the scaler skips a step, all skip it.
    """

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self._parts = tuple(parts)
        super().__init__(self._groups(), {})

    def _groups(self) -> list[dict[str, Any]]:
        return [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Steps each; a closure is none of a trainer's that has the gradients already."""
        assert closure is None
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Each one's own."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from a `state_dict`.

        Raises:
            KeyError, ValueError: it is of other optimizers.
        """
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = self._groups()  # loading makes new ones


def make_optimizer(config: TrainConfig, model: nn.Module, vocabulary_size: int) -> Optimizer:
    """Makes the optimizer of a run; the first of its groups has the config's rate.

    "muon" is Muon for the `hidden_matrices` and AdamW for all other parameters, at `muon_ratio`
    times its rate. An update is scaled by 0.2 sqrt(larger side) as in Liu et al. 2025
    (arXiv 2502.16982), so that it is as large as one of AdamW's and a rate is good for both.

    Args:
        config: the run.
        model: its parameters are stepped.
        vocabulary_size: tells an output head from hidden layers.

    Raises:
        TrainerError: there is no such optimizer, it refuses an option, or Muon has no matrix.
    """
    if config.optimizer != "muon":
        scales = _scales(config.optimizer, model)
        return _made(config.optimizer, model.parameters(), config.learning_rate, config, scales)
    _scales("muon", model)
    if not hasattr(torch.optim, "Muon"):
        raise TrainerError(f"optimizer muon needs PyTorch 2.9, this is {torch.__version__}")
    hidden = hidden_matrices(model, vocabulary_size)
    if not hidden:
        raise TrainerError(
            f"optimizer muon: model {config.model.name} has no hidden matrix, only embeddings and "
            "heads: take adamw"
        )
    taken = {id(parameter) for parameter in hidden.values()}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in taken]
    muon = _made("muon", hidden.values(), config.learning_rate, config)
    rate = config.muon_ratio * config.learning_rate
    return Joined([muon, _made("adamw", rest, rate, config)]) if rest else muon


def hidden_matrices(model: nn.Module, vocabulary_size: int) -> dict[str, nn.Parameter]:
    """The parameters of two dimensions, by name, that are no embedding's and no output head's.

    An embedding is an `nn.Embedding`, whatever it embeds; the head is `model.head` where that is an
    `nn.Linear`, otherwise every `nn.Linear` with as many outputs as the vocabulary has tokens. A
    weight that both share is no hidden one.

    Args:
        model: any.
        vocabulary_size: tokens that it knows.
    """
    head = getattr(model, "head", None)
    outer: list[nn.Module] = [head] if isinstance(head, nn.Linear) else []
    for module in model.modules():
        embeds = isinstance(module, nn.Embedding | nn.EmbeddingBag)
        predicts = isinstance(module, nn.Linear) and module.out_features == vocabulary_size
        if embeds or (predicts and not isinstance(head, nn.Linear)):
            outer.append(module)
    left_out = {id(parameter) for module in outer for parameter in module.parameters()}
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.ndim == 2 and id(parameter) not in left_out
    }


def _scales(name: str, model: nn.Module) -> Scales:
    """The factors that a model's parametrization puts on its parameters' steps, where it does.

    Raises:
        TrainerError: the optimizer is none that they are for.
    """
    given = model.scales() if isinstance(model, Scaled) else {}
    scales = {
        id(p): given[key] for key, p in model.named_parameters() if given.get(key, PLAIN) != PLAIN
    }
    if scales and name not in ("adam", "adamw"):
        raise TrainerError(
            f"optimizer {name}: the model's parametrization (mup) is for adam and adamw: take one "
            "of them, or the standard parametrization"
        )
    return scales


def _made(
    name: str,
    parameters: Iterable[nn.Parameter],
    rate: float,
    config: TrainConfig,
    scales: Scales = MappingProxyType({}),
) -> Optimizer:
    make, own = OPTIMIZERS.find(name), name not in OPTIMIZERS.built_in
    # 0 leaves the decay of the user's own class to that class.
    decays = bool(config.weight_decay) or not own
    groups = _groups(list(parameters), config) if decays else [{"params": list(parameters)}]
    groups = [part for group in groups for part in _scaled(group, scales, rate, config)]
    groups.sort(key=lambda group: group.get("lr", rate) != rate)  # the first has the run's own
    try:
        optimizer = make(groups, **{"lr": rate, **arguments(config, name)})
    except Exception as error:
        if not own and not isinstance(error, TypeError | ValueError):
            raise
        reason = " ".join(str(error).split())
        raise TrainerError(f"optimizer {name} cannot be made: {reason}") from error
    if not isinstance(optimizer, Optimizer):
        raise TrainerError(
            f"optimizer {name} must make a torch.optim.Optimizer, it made a "
            f"{type(optimizer).__name__}"
        )
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise TrainerError(
            f"optimizer {name} steps by a closure, which computes the loss anew, and a trainer "
            "gives it gradients: take one that steps without"
        )
    if decays and "weight_decay" not in optimizer.defaults:
        raise TrainerError(f"optimizer {name} has no weight_decay: set trainer.weight_decay to 0")
    return optimizer


def _groups(parameters: list[nn.Parameter], config: TrainConfig) -> list[dict[str, Any]]:
    if config.decayed == "all":
        return [{"params": parameters, "weight_decay": config.weight_decay}]
    matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
    others = [parameter for parameter in parameters if parameter.ndim < 2]
    groups = [(matrices, config.weight_decay), (others, 0.0)]
    return [{"params": own, "weight_decay": decay} for own, decay in groups if own]


def _scaled(
    group: dict[str, Any], scales: Scales, rate: float, config: TrainConfig
) -> list[dict[str, Any]]:
    """A group in parts that have the same factors on rate, decay and eps."""
    parts: dict[Scale, list[nn.Parameter]] = {}
    for parameter in group["params"]:
        parts.setdefault(scales.get(id(parameter), PLAIN), []).append(parameter)
    return [
        {**group, "params": own} | ({} if scale == PLAIN else _factors(scale, group, rate, config))
        for scale, own in parts.items()
    ]


def _factors(
    scale: Scale, group: dict[str, Any], rate: float, config: TrainConfig
) -> dict[str, Any]:
    # Adam adds its decay to the gradient, which it divides by its size: no factor is right there.
    decay = scale.decay if config.optimizer == "adamw" else 1.0
    return {
        "lr": scale.rate * rate,
        "eps": scale.eps * config.eps,
        "weight_decay": decay * group.get("weight_decay", 0.0),
    }


def arguments(config: TrainConfig, name: str = "") -> dict[str, Any]:
    """What an optimizer's class is given beside parameters, rate and weight decay.

    Args:
        config: the run.
        name: of an optimizer that goes with the config's; "" for that itself.
    """
    asked = dict(config.optimizer_options) if name in ("", config.optimizer) else {}
    name = name or config.optimizer
    if name in ("adam", "adamw"):
        return {"betas": config.betas, "eps": config.eps, "fused": True} | asked
    if name == "muon":
        return {"adjust_lr_fn": "match_rms_adamw"} | asked
    # Not fused: where the scaler skips torch's fused first step, its momentum stays uninitialised.
    return ({"momentum": 0.9} if name == "sgd" else {}) | asked
