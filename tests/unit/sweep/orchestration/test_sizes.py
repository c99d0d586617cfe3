"""A model in other sizes."""

import pytest

from sweep.errors import SweepError
from sweep.orchestration.sizes import can_resize, resized
from trainers.config import ModelConfig
from trainers.models import count_parameters

GPT = ModelConfig(name="gpt", options={"width": 64, "layers": 2, "heads": 4})
VECTOR = ModelConfig(
    name="context_vector", options={"embed": 64, "hidden": 128, "layers": 2, "context": 64}
)


@pytest.mark.parametrize("model", [GPT, VECTOR])
@pytest.mark.parametrize("parameters", [5e4, 1e6, 2e7])
def test_it_has_about_so_many_parameters(model: ModelConfig, parameters: float) -> None:
    found = resized(model, 1000, parameters)
    assert count_parameters(found, 1000) == pytest.approx(parameters, rel=0.1)
    assert found.options["layers"] == 2


def test_its_own_size_is_its_own() -> None:
    assert resized(GPT, 1000, count_parameters(GPT, 1000)) == GPT


def test_heads_divide_the_width() -> None:
    for parameters in (3e4, 1e5, 3e5):
        assert int(resized(GPT, 1000, parameters).options["width"]) % 4 == 0


def test_a_model_of_ones_own_is_refused() -> None:
    own = ModelConfig(name="mymodels:build")
    assert not can_resize(own)
    with pytest.raises(SweepError, match="leave --params out"):
        resized(own, 1000, 1e6)
