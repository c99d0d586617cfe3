"""What `sweep bench` measures is all that a step multiplies."""

import pytest
import torch

from trainers.config import DataConfig, ModelConfig, TrainConfig
from trainers.measuring.speed import measure_speed

EMBED, HIDDEN, LAYERS, CONTEXT = 6, 10, 3, 4
VOCABULARY, ROWS, WINDOW = 50, 5, 7


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.measuring.speed.LEAST_S", 0.0)
    monkeypatch.setattr("trainers.measuring.speed.PEAK_SIZE", {"cpu": 8})


@pytest.mark.parametrize("cohort", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_product_of_forward_and_backward_is_counted(precision: str, cohort: int) -> None:
    options = {"embed": EMBED, "hidden": HIDDEN, "layers": LAYERS, "context": CONTEXT}
    config = TrainConfig(
        learning_rate=1e-3,
        batch_size=ROWS,
        precision=precision,
        model=ModelConfig(options=options),
        data=DataConfig(vocabulary_size=VOCABULARY, window=WINDOW, stride=WINDOW - 1),
    )
    found = measure_speed(config, cohort, torch.device("cpu"))
    positions, later = ROWS * (WINDOW - 1), ROWS * (WINDOW - 2)
    alone = EMBED * HIDDEN + (LAYERS - 1) * HIDDEN**2 + HIDDEN * VOCABULARY
    of_context = CONTEXT * HIDDEN + HIDDEN * 3 * CONTEXT  # none enters the first position
    # Two a multiplication and addition; backward multiplies twice as often.
    expected = 6 * (positions * alone + later * of_context)
    expected += 2 * ROWS * HIDDEN * 3 * CONTEXT  # the last position's gates, zeros, are among all
    assert found.flops_per_second * found.step_s == pytest.approx(cohort * expected)
    assert found.tokens_per_second * found.step_s == pytest.approx(cohort * positions)
