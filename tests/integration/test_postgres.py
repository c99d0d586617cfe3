"""A study on a real PostgreSQL server: the same answers, and the server may go away for a while."""

import threading
from pathlib import Path

import optuna
import pytest
import support
from servers import PASSWORD, URL_PASSWORD, Postgres
from support import Workspace, make_at_once, open_ledger, refusal, report

from sweep.errors import SweepError
from sweep.storage.connect import open_storage
from trainers.report import Outcome

FAST = """\
    import math, time
    from trainers.report import Ending, Report, Outcome

    def train(config, *, device, directory):
        for epoch in range(1, 21):
            time.sleep(0.05)
            yield Report(epoch=epoch, validation_loss=math.log(60 - epoch))
        return Ending(Outcome.COMPLETED)
"""

CLOSE = """\
    select pg_terminate_backend(pid) from pg_stat_activity
    where pid != pg_backend_pid() and client_port is not null
"""


def curves(url: str) -> dict[int, dict[int, float]]:
    """Every trial's perplexities by step, of the one study there."""
    storage = open_storage(url, create=False)
    (name,) = optuna.get_all_study_names(storage)
    trials = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    return {trial.number: trial.intermediate_values for trial in trials}


def test_a_sweep_there_is_the_one_in_sqlite_and_its_password_is_nowhere(
    workspace: Workspace, postgres: Postgres, finished: Workspace
) -> None:
    url = postgres.url("whole")
    commands = (
        "run --trials 3",
        "status",
        "list",
        "show 0",
        "export -o best.yaml",
    )
    said = [workspace.invoke(*command.split(), "--storage", url) for command in commands]
    assert curves(url) == {number: finished.curves()[number] for number in range(3)}
    assert "best.yaml: trial 2" in said[4].out
    texts = [done.out + done.err for done in said]
    files = [file.read_bytes() for file in workspace.path.rglob("*") if file.is_file()]
    for secret in (PASSWORD, URL_PASSWORD):
        assert not any(secret in text for text in texts)
        assert not any(secret.encode() in content for content in files)
    assert "postgresql://sweeper:***@127.0.0.1" in said[1].out


def test_what_is_wrong_with_it_is_one_line(workspace: Workspace, postgres: Postgres) -> None:
    empty = postgres.url("empty")
    assert "holds no study" in refusal(workspace.invoke("status", "--storage", empty, code=2))
    count = "select count(*) from pg_tables where schemaname = 'public'"
    assert postgres.sql("empty", count) == "0"
    postgres.sql("empty", "create table mine (number int)")
    for url, words in (
        (empty, "another program's"),
        (empty.replace("/empty", "/nowhere"), 'database "nowhere" does not exist'),
        (empty.replace(URL_PASSWORD, "wr0ng"), "password authentication failed"),
    ):
        line = refusal(workspace.invoke("run", "--storage", url, code=2))
        assert words in line
        assert "--storage" in line
        assert URL_PASSWORD not in line
        assert "wr0ng" not in line


def test_several_may_make_its_tables_at_once(postgres: Postgres) -> None:
    url = postgres.url("at-once")
    assert make_at_once(url, 3) == [""] * 3
    assert optuna.get_all_study_names(open_storage(url, create=False)) == ["mine"]


class TestAServerThatGoesAway:
    @pytest.fixture(autouse=True)
    def _there(self, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(support, "SERVER", [postgres])

    def test_a_closed_connection_is_replaced(self, tmp_path: Path, postgres: Postgres) -> None:
        with open_ledger(tmp_path) as ledger:
            spec = ledger.ask()
            assert spec is not None
            for epoch in (1, 2, 3):
                postgres.sql("postgres", CLOSE)
                ledger.report({0: report(epoch, 60 - epoch)})
            postgres.sql("postgres", CLOSE)
            ledger.tell(0, Outcome.COMPLETED, "")
            assert ledger.row(0).value == pytest.approx(57)

    def test_a_crash_is_waited_for_and_said_once(self, tmp_path: Path, postgres: Postgres) -> None:
        with open_ledger(tmp_path) as ledger:
            said: list[str] = []
            ledger.study._storage._backend.say = said.append  # type: ignore[attr-defined]
            assert ledger.ask() is not None
            postgres.stop("immediate")
            again = threading.Timer(0.5, postgres.start)
            again.start()
            ledger.report({0: report(1, 59)})
            again.join()
            assert said == ["the database's server does not answer: trying for 120 s"]
            assert ledger.row(0).step == 1

    def test_one_that_stays_away_is_one_line(
        self, tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sweep.storage.retry.RETRY_FOR_S", 0.5)
        with open_ledger(tmp_path) as ledger:
            assert ledger.ask() is not None
            postgres.stop()
            try:
                with pytest.raises(SweepError, match=r"does not answer, for 0 s now \(.*see to it"):
                    ledger.report({0: report(1, 59)})
            finally:
                postgres.start()
            ledger.report({0: report(1, 59)})


@pytest.mark.more
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_restarted_in_mid_sweep_it_has_every_report(
    workspace: Workspace, postgres: Postgres, mode: str
) -> None:
    workspace.write("fast.py", FAST)
    url = postgres.url(f"restarted-{mode}")
    settings = ("--trainer", "fast:train", "--trials", 6, "--workers", 2, "--epochs", 20)
    pruner = ("--set", "study.pruner=none")
    with workspace.start("run", *settings, *pruner, "--storage", url, "--json") as live:
        for number in (0, 2, 4):
            live.until("trial_reported", number=number, epoch=5)
            postgres.stop(mode)
            postgres.start()
        done = live.end(0)
    whole = {epoch: pytest.approx(60 - epoch) for epoch in range(1, 21)}
    assert curves(url) == dict.fromkeys(range(6), whole)
    assert sum(event["event"] == "trial_ended" for event in done.events) == 6
