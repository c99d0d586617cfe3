"""A killed sweep of several trials at once: each one's own curve is as without the kill."""

import signal
from pathlib import Path

import pytest
from support import Workspace

pytestmark = pytest.mark.more

RUN = ("run", "--trials", 3, "--json", "--set", "study.pruner=none")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    """One trial after the other."""
    workspace = Workspace(tmp_path_factory.mktemp("straight"), english)
    workspace.invoke(*RUN)
    return workspace


@pytest.mark.parametrize(
    ("flags", "tolerance"),
    [
        (("--workers", 2), 0.0),  # to the bit: each has a worker of its own
        (("--set", "study.cohort=3"), 1e-4),  # one product for all rounds otherwise
    ],
    ids=["workers", "cohort"],
)
def test_each_trials_own_curve_is_the_same(
    workspace: Workspace, straight: Workspace, flags: tuple[object, ...], tolerance: float
) -> None:
    with workspace.start(*RUN, *flags) as live:
        live.until("trial_reported", number=1, epoch=1)
        live.signal(signal.SIGKILL)
        live.end(-signal.SIGKILL)
    assert "RUNNING" in workspace.states()
    workspace.invoke(*RUN, *flags)
    assert workspace.states() == ["COMPLETE"] * 3
    for number, curve in straight.curves().items():
        assert workspace.curves()[number] == pytest.approx(curve, rel=tolerance, abs=0.0)
