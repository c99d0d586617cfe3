"""Known cases, what is known of them, and whether their pattern is met again."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.config.schema import SweepConfig
from sweep.errors import SweepError
from sweep.results.runs import TrainedRun
from trainers.config import PrecisionName

MODEL = "context_vector"


FULL_SIZE = {"embed": 256, "hidden": 512, "layers": 6, "context": 256}


DATA, EPOCHS = "Salesforce/wikitext", 50


@dataclass(frozen=True, slots=True)
class Case:
    """One run of a known case.

    Attributes:
        learning_rate: at full size.
        multiple: of the reference's rate, which it is at any size.
        known: the perplexity that it came to; None where it was unstable.
        growth: factors on the model's options.
    """

    label: str
    batch_size: int
    precision: PrecisionName
    learning_rate: float
    multiple: float
    known: float | None
    growth: Mapping[str, int]


ADVANCED = {"context": 2, "layers": 2}  # 256 -> 512, 6 -> 12


SEED_TABLE = (
    Case("reference", 32, "fp32", 1e-4, 1, 23.34, {}),
    Case("unscaled", 2048, "fp16", 1e-4, 1, 46.7, {}),
    Case("x4", 2048, "fp16", 4e-4, 4, 30.78, {}),
    Case("sqrt", 2048, "fp16", 8e-4, 8, 26.03, {}),
    Case("linear", 2048, "fp16", 6.4e-3, 64, None, {}),
    Case("advanced", 2048, "fp16", 4e-4, 4, 40.93, ADVANCED),
)


CASES = {"seed-table": SEED_TABLE}


@dataclass(frozen=True, slots=True)
class Reproduced:
    """A case and its run here.

    Attributes:
        run: None where it did not come to an end.
    """

    case: Case
    learning_rate: float
    parameters: int
    run: TrainedRun | None


def full_size(config: SweepConfig) -> bool:
    """Whether the known values are those of this very model, text and number of epochs."""
    train = config.trainer
    there = (MODEL, FULL_SIZE, DATA, EPOCHS)
    return (train.model.name, train.model.options, train.data.name, train.epochs) == there


def rate_here(config: SweepConfig, case: Case) -> float:
    """The case's own rate at full size; else the same multiple of the profile's reference."""
    if full_size(config):
        return case.learning_rate
    return float(f"{case.multiple * config.reference.learning_rate:.4g}")


def known_cases(name: str) -> tuple[Case, ...]:
    """The cases of a name.

    Raises:
        SweepError: there are none of that name.
    """
    if name not in CASES:
        raise SweepError(f"there is no known case '{name}': there is {', '.join(CASES)}")
    return CASES[name]


def pattern(found: Sequence[Reproduced]) -> list[tuple[str, bool | None]]:
    """What the known case showed, and whether it is so here; None where a run is missing.

    Args:
        found: the seed table's.
    """
    value = {one.case.label: _value(one.run) for one in found}
    at_2048 = {label: value[label] for label in ("unscaled", "x4", "sqrt", "linear")}
    missing = any(perplexity is None for perplexity in at_2048.values())
    ordered = sorted(at_2048, key=lambda label: at_2048[label] or math.inf)
    return [
        (
            "the old rate is worse at the new batch size than at its own",
            _above(value["unscaled"], value["reference"]),
        ),
        (
            "of the four rates at batch 2,048 the square-root rule's is the best",
            None if missing else ordered[0] == "sqrt",
        ),
        (
            "the linear rule's rate is too high: unstable, or worse than the square-root rule's",
            _above(value["linear"], value["sqrt"]),
        ),
        (
            "the advanced model is worse than the plain one at the same rate",
            _above(value["advanced"], value["x4"]),
        ),
    ]


def _value(run: TrainedRun | None) -> float | None:
    return None if run is None else run.value


def _above(first: float | None, second: float | None) -> bool | None:
    return None if first is None or second is None else first > second


def reproduced_object(config: SweepConfig, found: Sequence[Reproduced]) -> dict[str, Any]:
    """The table as plain JSON values."""
    return {
        "profile": config.profile,
        "device": config.device,
        "full_size": full_size(config),
        "runs": [
            {
                "label": one.case.label,
                "batch_size": one.case.batch_size,
                "precision": one.case.precision,
                "parameters": one.parameters,
                "known_learning_rate": one.case.learning_rate,
                "known_perplexity": one.case.known,
                "learning_rate": one.learning_rate,
                "state": one.run.state if one.run else "failed",
                "perplexity": _value(one.run),
                "study": one.run.study if one.run else None,
                "trial": one.run.trial if one.run else None,
                "curve": one.run.curve if one.run else {},
            }
            for one in found
        ],
        "pattern": [{"claim": claim, "met": met} for claim, met in pattern(found)],
    }
