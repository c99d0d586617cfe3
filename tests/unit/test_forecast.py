import math

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from studies.forecast import Falls, Forecast
from studies.forecast import forecast as forecast_by

from studies.definition import PARAMETER, WIDE
from studies.errors import StudyError
from studies.observed import observe

EPOCHS = 10


def forecast(each: FrozenTrial, peers: list[FrozenTrial]) -> Forecast | None:
    return forecast_by(each, Falls(peers))


def fall(epoch: int, trend: float, x: float) -> float:
    """What is still to come after an epoch, nats: a straight line in ln rate."""
    return (0.4 + trend * x) * (1 - epoch / EPOCHS)


def trial(
    number: int,
    x: float,
    final: float,
    *,
    trend: float = 0.0,
    epochs: int = EPOCHS,
    state: TrialState = TrialState.COMPLETE,
) -> FrozenTrial:
    """A trial at rate 1e-3 e^x that reaches ln perplexity `final`, stopped after `epochs`."""
    values = {epoch: math.exp(final + fall(epoch, trend, x)) for epoch in range(1, epochs + 1)}
    made = create_trial(
        state=state,
        value=min(values.values()) if state == TrialState.COMPLETE else None,
        params={PARAMETER: 1e-3 * math.exp(x)},
        distributions={PARAMETER: WIDE},
        intermediate_values=values,
    )
    made.number = number
    return made


def finished(trend: float, *offsets: float) -> list[FrozenTrial]:
    return [trial(number, x, 3.0 + 0.02 * x**2, trend=trend) for number, x in enumerate(offsets)]


def stopped(x: float, final: float, trend: float, epochs: int) -> FrozenTrial:
    return trial(9, x, final, trend=trend, epochs=epochs, state=TrialState.PRUNED)


@pytest.mark.parametrize("trend", [0.1, -0.1])
@pytest.mark.parametrize("x", [-2.0, 0.3, 1.5])
def test_high_and_low_rates_are_predicted_without_bias(trend: float, x: float) -> None:
    """High rates fall less from here on with a constant rate, more with a decaying one."""
    predicted = forecast(stopped(x, 3.1, trend, epochs=4), finished(trend, -2.5, -1.0, 0.0, 1.0))
    assert predicted is not None
    assert predicted.mean == pytest.approx(3.1, abs=0.03)
    assert abs(predicted.mean - 3.1) < 2 * predicted.scale


def test_the_prediction_sharpens_with_epochs_and_with_trials() -> None:
    few, many = finished(0.0, -1.0, 1.0), finished(0.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5)
    running = [stopped(0.0, 3.0, 0.0, epochs) for epochs in (3, 8)]
    variances = [
        predicted.variance
        for peers in (few, many)
        for each in running
        if (predicted := forecast(each, peers)) is not None
    ]
    early_few, late_few, early_many, late_many = variances
    assert late_few < early_few
    assert early_many < early_few
    assert late_many < late_few


def test_scattered_falls_make_it_vague() -> None:
    alike = finished(0.0, -1.0, 0.0, 1.0)
    unlike = [trial(n, x, 3.0, trend=0.2 * (-1) ** n) for n, x in enumerate((-1.0, -0.5, 0.8))]
    each = stopped(0.2, 3.0, 0.0, epochs=3)
    steady, scattered = forecast(each, alike), forecast(each, unlike)
    assert steady is not None
    assert scattered is not None
    assert scattered.variance > 1.5 * steady.variance


def test_a_trial_that_stopped_early_falls_no_further() -> None:
    peers = [trial(n, x, 3.0, epochs=2) for n, x in enumerate((-1.0, 1.0))]
    each = stopped(0.0, 3.0, 0.0, epochs=5)
    predicted = forecast(each, peers)
    assert predicted is not None
    assert predicted.mean == pytest.approx(math.log(each.intermediate_values[5]), abs=1e-9)


def test_nothing_is_predicted_from_nothing() -> None:
    each = stopped(0.0, 3.0, 0.0, epochs=5)
    assert forecast(each, []) is None
    assert forecast(each, [each]) is None
    pruned = trial(1, 1.0, 3.0, epochs=9, state=TrialState.PRUNED)
    assert forecast(each, [pruned]) is None
    unheard = create_trial(
        state=TrialState.RUNNING, params={PARAMETER: 1e-3}, distributions={PARAMETER: WIDE}
    )
    assert forecast(unheard, finished(0.0, -1.0, 1.0)) is None


def test_observations_by_state() -> None:
    complete = finished(0.0, -1.0, 1.0)
    running = trial(2, 0.5, 3.0, epochs=6, state=TrialState.RUNNING)
    unheard = create_trial(
        state=TrialState.RUNNING, params={PARAMETER: 2e-3}, distributions={PARAMETER: WIDE}
    )
    waiting = create_trial(
        state=TrialState.WAITING, system_attrs={"fixed_params": {PARAMETER: 5e-3}}
    )
    failed = trial(3, 2.0, 1.0, state=TrialState.FAIL)
    lost = create_trial(
        state=TrialState.PRUNED,
        params={PARAMETER: 5e-2},
        distributions={PARAMETER: WIDE},
        intermediate_values={1: 50.0, 2: math.inf},
    )
    found = observe([*complete, running, unheard, waiting, failed, lost])
    assert found.x == pytest.approx([math.log(1e-3) + x for x in (-1.0, 1.0, 0.5)])
    assert found.y == pytest.approx([3.02, 3.02, 3.0], abs=0.02)
    assert list(found.variance[:2]) == [0.0, 0.0]
    assert found.variance[2] > 0.0
    assert found.lost == pytest.approx([math.log(5e-2)])
    assert found.running == pytest.approx([math.log(2e-3), math.log(5e-3)])


def test_a_value_that_is_no_perplexity_is_refused() -> None:
    wrong = trial(4, 0.0, 3.0)
    wrong.value = 0.0
    with pytest.raises(StudyError, match="trial 4: value must be a perplexity, above 0, got 0"):
        observe([wrong])


def test_a_steep_last_epoch_makes_the_forecast_wide() -> None:
    """A high rate that began badly still falls when its peers hardly do: it is not hopeless yet."""
    peers = finished(0.0, -1.0, 0.0, 1.0)
    slow, steep = (forecast(running(0.0, {7: before, 8: 90.0}), peers) for before in (91.0, 270.0))
    assert slow is not None
    assert steep is not None
    assert steep.mean == slow.mean
    assert steep.scale > slow.scale + 0.3


def running(x: float, values: dict[int, float]) -> FrozenTrial:
    return create_trial(
        state=TrialState.RUNNING,
        params={PARAMETER: 1e-3 * math.exp(x)},
        distributions={PARAMETER: WIDE},
        intermediate_values=values,
    )


def test_a_trial_that_has_risen_again_may_still_fall_as_far() -> None:
    peers = finished(0.0, -1.0, 0.0, 1.0)
    settled, risen = (forecast(running(0.0, {7: 30.0, 8: last}), peers) for last in (30.0, 90.0))
    assert settled is not None
    assert risen is not None
    assert risen.mean == settled.mean
    assert risen.scale > settled.scale + 0.5


@pytest.mark.parametrize(("x", "wider"), [(0.0, True), (0.3, True), (-3.5, False)])
def test_a_trial_behind_those_at_its_rate_may_still_catch_up(x: float, *, wider: bool) -> None:
    """It may sit on a plateau; where no other has been, it is its rate that is slow."""
    peers = finished(0.0, -1.0, 0.0, 1.0)
    with_them, behind, far_behind = (
        forecast(running(x, {7: 30.0 * factor, 8: 25.0 * factor}), peers)
        for factor in (1.0, 1.5, 15.0)
    )
    assert with_them is not None
    assert behind is not None
    assert far_behind is not None
    assert (behind.scale > 2 * with_them.scale) is wider
    assert far_behind.scale == pytest.approx(behind.scale, rel=0.01)
