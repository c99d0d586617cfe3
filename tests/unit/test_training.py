"""What is known of the shared trainer's trials, and of no others."""

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from support import Workspace

from studies.sampler import make_sampler
from studies.training import UNKNOWN, Training
from sweep.protocol import SHARED_TRAINER
from sweep.training import stored_training, training_of

ONE_EPOCH = """\
    from trainers.report import Ending, EpochReport, Outcome

    def train(config, *, device, directory):
        yield EpochReport(1, 4.0, 4.0, 0.1, 1e-3, 1e3, 1, 0)
        return Ending(Outcome.COMPLETED)
"""


CONSTANT = {"trainer": SHARED_TRAINER, "lr_schedule.name": "constant"}


def test_nothing_is_known_of_a_trainer_of_the_user_s_own() -> None:
    assert training_of(CONSTANT, 71.0) == Training(71.0, constant_rate=True)
    assert training_of({**CONSTANT, "trainer": "mine:train"}, 71.0) == UNKNOWN


def test_the_schedule_says_whether_the_rate_stays() -> None:
    assert not training_of({**CONSTANT, "lr_schedule.name": "cosine"}, 71.0).constant_rate
    assert not training_of({"trainer": SHARED_TRAINER}, 71.0).constant_rate


def test_a_study_says_it_of_itself() -> None:
    assert stored_training({"identity": CONSTANT, "unigram_perplexity": 71.0}).baseline == 71.0
    assert stored_training({"identity": CONSTANT}) == Training(None, constant_rate=True)
    assert stored_training({}) == UNKNOWN


@pytest.mark.parametrize("own", [False, True])
def test_a_run_searches_with_what_its_report_reads(
    own: bool, tmp_path: Path, english: Path
) -> None:
    workspace = Workspace(tmp_path, english)
    workspace.write("held.py", ONE_EPOCH)
    told: list[Any] = []

    def watched(*arguments: Any, **options: Any) -> Any:
        told.append(options["training"])
        return make_sampler(*arguments, **options)

    trainer = ("--trainer", "held:train") if own else ()
    with mock.patch("sweep.ledger.make_sampler", watched):
        workspace.invoke("run", "--trials", 1, "--epochs", 1, *trainer)
    about = workspace.study().user_attrs
    assert about["unigram_perplexity"] > 1
    known = UNKNOWN if own else Training(about["unigram_perplexity"], constant_rate=True)
    assert set(told) == {stored_training(about)} == {known}
