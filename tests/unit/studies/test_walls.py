"""Up to which rate training is safe: carried from where it was lost."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from studies.law import Critical, Law, Swept
from studies.likelihood import Observations
from studies.posterior import Posterior
from studies.rules import Setting
from studies.transfer import read_optimum
from studies.walls import Wall

CRITICAL = Critical(math.log(300), 0.5)
NOTHING = np.zeros(0)


def study(optimum: float, wall: float | None, tokens: float = 1e6) -> Swept:
    """Rates a factor of 1.6 apart round an optimum; those beyond the wall are lost."""
    x = math.log(optimum) + np.arange(-4, 7) * math.log(1.6)
    held = x < (math.inf if wall is None else math.log(wall))
    seen = Observations(
        x[held], 3 + 0.05 * (x[held] - math.log(optimum)) ** 2, x[~held], NOTHING, baseline=7.0
    )
    posterior = Posterior(seen, {}, optimum / 30, optimum * 30)
    return read_optimum("", Setting(4096, 1000, tokens), posterior)


def wall(studies: Sequence[Swept], tokens: float = 1e6) -> Wall:
    return Wall(Law(studies, CRITICAL), Setting(4096, 1000, tokens))


def test_the_safe_rate_lies_between_the_highest_that_held_and_the_lowest_lost() -> None:
    found = wall([study(1e-3, 4e-3), study(1e-3, 4e-3)])
    assert 1.6e-3 < found.safe < 4e-3
    assert found.risk(math.log(1e-3)) < 0.01
    assert found.risk(math.log(8e-3)) > 0.95
    assert found.risk(math.log(found.safe)) == pytest.approx(0.05, rel=0.01)


def test_the_risk_rises_with_the_rate() -> None:
    found = wall([study(1e-3, 4e-3)])
    risks = [found.risk(x) for x in np.log(np.geomspace(1e-4, 1e-1, 20))]
    assert risks == sorted(risks)


def test_a_near_wall_is_carried_to_a_longer_run_with_less_certainty() -> None:
    seen = [study(1e-3, 2e-3), study(1e-3, 2e-3)]
    same, longer = wall(seen), wall(seen, tokens=1e8)
    assert longer.sd > same.sd
    assert longer.safe < same.safe
    assert wall([study(1e-3, 1.6e-2)] * 2, tokens=1e8).safe > 2 * longer.safe


def test_where_none_was_seen_it_lies_above_what_held() -> None:
    found = wall([study(1e-3, None)])
    assert found.mean > math.log(1e-3 * 1.6**5)
    assert found.risk(math.log(1e-3)) < 0.01


def test_before_any_was_seen_it_may_be_near() -> None:
    bare = Swept("", Setting(4096, 1000, 1e6), math.log(1e-3), 0.1)
    found = wall([bare])
    assert 0.5e-3 < found.safe < 2e-3
