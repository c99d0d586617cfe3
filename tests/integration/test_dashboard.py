"""optuna-dashboard in a real browser, while a sweep is running."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from optuna.artifacts import get_all_artifact_meta
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from support import Workspace

# Trial 2 stays running after its second epoch until the test has seen it.
HELD_TRAINER = """
    import time
    from pathlib import Path
    from trainers.train import train as shared
    from trainers.report import Report

    def train(config, *, device, directory):
        training = shared(config, device=device, directory=directory)
        verdict, held = None, directory.name == "0002"
        while True:
            try:
                said = training.send(verdict)
            except StopIteration as end:
                return end.value
            verdict = yield said
            if held and isinstance(said, Report) and said.epoch == 2:
                while not Path("seen").exists():
                    time.sleep(0.05)
"""
WAIT_S = 90.0
HTML = "text/html"
# The curves of the plot of intermediate values, by the name that plotly's legend gives them.
CURVES = """
    return Array.from(document.querySelectorAll('#graph-intermediate-values'))
        .flatMap(plot => plot.data ?? [])
        .map(curve => [curve.name.trim(), Array.from(curve.x)])
"""


def missing_browser() -> str:
    """What a browser test needs and this machine lacks, "" where nothing does."""
    return ", ".join(name for name in ("chromium", "chromedriver") if shutil.which(name) is None)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    if missing_browser():
        # On CI a missing browser is a fault of the machine's set-up, not a reason to pass.
        assert not os.environ.get("CI"), f"CI must install {missing_browser()}"
        pytest.skip(f"no {missing_browser()} here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--window-size=1400,2600",
        f"--user-data-dir={tmp_path / 'chromium'}",
    ):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, found: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not found():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.2)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def text_with(driver: webdriver.Chrome, *wanted: str) -> str:
    """The page's text once it holds all of `wanted`."""

    def text() -> str:
        return str(driver.execute_script("return document.body.innerText"))

    wait_for(f"{wanted} on {driver.current_url}", lambda: all(word in text() for word in wanted))
    return text()


@pytest.fixture
def dashboard(workspace: Workspace) -> Iterator[Callable[[], str]]:
    """Starts `sweep dashboard`, and gives its address once it answers."""
    port, started = free_port(), []

    def start() -> str:
        command = [sys.executable, "-m", "sweep", "dashboard", "--port", str(port)]
        quiet = subprocess.DEVNULL
        started.append(subprocess.Popen(command, cwd=workspace.path, stdout=quiet, stderr=quiet))
        address = f"http://127.0.0.1:{port}/dashboard"
        wait_for(address, lambda: answers(address))
        return address

    yield start
    for server in started:
        server.terminate()
        server.wait(30)


@pytest.mark.more
def test_a_running_sweep_is_seen_in_the_dashboard(
    workspace: Workspace,
    browser: webdriver.Chrome,
    dashboard: Callable[[], str],
    tmp_path: Path,
) -> None:
    workspace.write("held.py", HELD_TRAINER)
    run = ("run", "--trainer", "held:train", "--trials", 5, "--study", "watched", "--json")
    with workspace.start(*run) as sweep:
        sweep.until("trial_reported", number=2, epoch=2)
        address = dashboard()
        assert only_on_loopback(int(address.split(":")[2].split("/")[0]))

        browser.get(address)
        text_with(browser, "watched")

        browser.get(f"{address}/studies/1/trials?numbers=0&numbers=2")
        text = text_with(browser, "Trial 0", "Trial 1", "Trial 2", "nearest_rule", "reason")
        assert "trained to its end" in text
        assert "Running" in text
        assert "Complete" in text
        text_with(browser, "learning_rate", "Intermediate Values")
        browser.save_screenshot(str(tmp_path / "trials.png"))

        browser.get(f"{address}/studies/1")
        whole = {"trial #0": [1, 2, 3], "trial #1": [1, 2, 3], "trial #2 (running)": [1, 2]}
        wait_for("the curves", lambda: dict(browser.execute_script(CURVES)) == whole)
        browser.save_screenshot(str(tmp_path / "study.png"))
        assert sweep.process.poll() is None
        workspace.write("seen", "")
        sweep.end(0)
    assert set(workspace.states()) <= {"COMPLETE", "PRUNED"}
    assert len(workspace.states()) == 5


# The graphs of our own, with how many traces each has drawn.
GRAPHS = """
    return Array.from(document.querySelectorAll('[id^="user-defined-plot:"]'))
        .filter(plot => plot.data).map(plot => [plot.id.split(':')[1], plot.data.length])
"""


def test_the_answer_is_in_the_dashboard(
    workspace: Workspace,
    browser: webdriver.Chrome,
    dashboard: Callable[[], str],
    tmp_path: Path,
) -> None:
    workspace.sweep("run", "--trials", 4, "--set", "study.publish=true")
    address = dashboard()

    browser.get(f"{address}/studies/1")
    text_with(browser, "Study Artifacts", "report.html", "best.yaml", "Perplexity by learning rate")
    names = {"sweep-response", "sweep-belief", "sweep-steps", "sweep-batches"}
    wait_for("the graphs", lambda: {name for name, _ in browser.execute_script(GRAPHS)} == names)
    assert all(traces >= 2 for _, traces in browser.execute_script(GRAPHS))
    browser.save_screenshot(str(tmp_path / "graphs.png"))

    browser.get(f"{address}/studies/1/note")
    text_with(browser, "The best learning rate for batch 64 in fp32", "Scaling rules", "sqrt")
    browser.save_screenshot(str(tmp_path / "note.png"))

    browser.get(f"{address}/studies/1/trials?numbers=0")
    text_with(browser, "complete: trained to its end")

    # The page itself, as the dashboard serves it.
    (page,) = [meta for meta in get_all_artifact_meta(workspace.study()) if meta.mimetype == HTML]
    browser.get(f"{address.removesuffix('/dashboard')}/artifacts/1/{page.artifact_id}")
    text_with(browser, "Learning-rate report", "What it took")
    browser.save_screenshot(str(tmp_path / "report.png"))


def only_on_loopback(port: int) -> bool:
    """No listening socket of this port but on 127.0.0.1, by the kernel's own tables."""
    wanted = f":{port:04X}"
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    lines = [line for table in tables if table.exists() for line in table.read_text().splitlines()]
    bound = [line.split()[1] for line in lines if line.split()[3] == "0A"]
    return [each for each in bound if each.endswith(wanted)] == [f"0100007F{wanted}"]
