"""Studies planned for a target: what is to be swept to learn the best rate there, and its cost.

A plan's file says batch sizes, tokens and the model's sizes, and nothing that could be run: all
else comes from the command line and sweep.toml of whoever trains it.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from studies.rules import Setting
from sweep.config.messages import describe
from sweep.errors import SweepError
from sweep.formatting import format_count
from trainers.config import PositiveInt

HEADER = "# Studies planned for "
Unit = Literal["flops", "seconds"]
FLOPS: Unit = "flops"
SECONDS: Unit = "seconds"
PositiveReal = Annotated[FiniteFloat, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Sized(_Strict):
    """A batch size, a model's parameters and the tokens of one run."""

    batch_size: PositiveInt
    parameters: PositiveInt
    tokens: PositiveReal

    @property
    def setting(self) -> Setting:
        """The same as the law takes it."""
        return Setting(self.batch_size, self.parameters, self.tokens)


class Target(_Sized):
    """Where the best rate is wanted."""


class PlannedStudy(_Sized):
    """A study to be trained.

    Attributes:
        options: of the model, or of a program's sizes: those that make it so large.
        cost: of all its trials, in the budget's unit.
        factor: how far the target's 90 % interval reaches either way, expected once it is swept.
    """

    tokens: PositiveInt
    options: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], PositiveInt] = {}
    cost: PositiveReal
    factor: PositiveReal


class StudyPlan(_Strict):
    """Studies in the order to train them.

    Attributes:
        model: the model's name, whose sizes these are; of a program, what it is called.
        program: whether it is a program of the user's own.
        sequence_tokens: of such a one, tokens of a training sequence.
        unit: of the budget and the costs.
        trials: of each study.
        seen: finished studies that are known already.
        factor: the target's interval before any of the plan is trained; None: nothing is known.
    """

    model: str
    program: bool = False
    sequence_tokens: PositiveInt | None = None
    target: Target
    budget: PositiveReal
    unit: Unit
    trials: PositiveInt
    seen: Annotated[int, Field(ge=0)] = 0
    factor: PositiveReal | None = None
    studies: Annotated[tuple[PlannedStudy, ...], Field(min_length=1)]

    def to_toml(self) -> str:
        """The file's text."""
        target = self.target
        first = (
            f"{HEADER}batch {target.batch_size:,}, {target.parameters:,} parameters and "
            f"{format_count(target.tokens)} tokens: `sweep run --plan` trains them in turn\n"
        )
        return first + tomlkit.dumps(self.model_dump(exclude_none=True))


def read_plan(path: Path) -> StudyPlan:
    """Reads a plan's file.

    Raises:
        SweepError: it cannot be read, or is no plan.
    """
    try:
        return StudyPlan.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SweepError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise SweepError(f"{path} is no plan of studies: {describe(error)}") from error
    except (ValueError, RecursionError) as error:  # not TOML, or not UTF-8
        raise SweepError(f"{path} is no plan of studies: {error}") from error
