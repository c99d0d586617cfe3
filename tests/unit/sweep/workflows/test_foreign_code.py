"""Code that a file or a database names is run only where the user names it as well."""

from dataclasses import replace

import pytest

from sweep.execution.protocol import SHARED_TRAINER
from sweep.workflows.foreign_code import foreign_code
from trainers.config import DataConfig, ModelConfig, TrainConfig

PLAIN = TrainConfig(learning_rate=1e-3)


@pytest.mark.parametrize(
    ("train", "trainer", "found"),
    [
        (PLAIN, SHARED_TRAINER, None),
        (replace(PLAIN, model=ModelConfig(name="evil:f")), SHARED_TRAINER, ("--model", "evil:f")),
        (replace(PLAIN, optimizer="adamw"), SHARED_TRAINER, None),
        (replace(PLAIN, optimizer="evil:f"), SHARED_TRAINER, ("--optimizer", "evil:f")),
        (PLAIN, "evil:f", ("--trainer", "evil:f")),
        (replace(PLAIN, data=DataConfig(name="evil:f")), SHARED_TRAINER, ("--data", "evil:f")),
        (replace(PLAIN, data=DataConfig(fallback="evil:f")), SHARED_TRAINER, ("--data", "evil:f")),
    ],
)
def test_each_place_of_code(
    train: TrainConfig, trainer: str, found: tuple[str, str] | None
) -> None:
    assert foreign_code(train, trainer, allowed={"good:f"}) == found
    assert foreign_code(train, trainer, allowed={"evil:f"}) is None
