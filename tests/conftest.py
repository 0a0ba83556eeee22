"""Shared by many tests: facts of the published network, the tasks' modules, small networks, the option --no-skips."""

import importlib
import importlib.util
import multiprocessing
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# PyTorch reads this on import. Tests compare results bit for bit, and sums depend on the number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from mprnet import MPRNet, save_weights
from mprnet.processors import available_processors

ROOT = Path(__file__).parents[1]
TASKS = ("Deblurring", "Denoising", "Deraining")

# A shell makes programs in the background ignore Ctrl-C. The programs that the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The only reason to skip a test that --no-skips allows: a GPU cannot be installed.
ALLOWED_SKIP = "needs a GPU"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help=f"fail if a test is skipped, unless it {ALLOWED_SKIP}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are processors: many tests wait for programs that they have started."""
    return 1 + available_processors()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that start programs first. Otherwise the other workers wait for the last of them, at the end."""
    items.sort(key=lambda item: item.get_closest_marker("processes") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    return refuse_skip((yield), item.config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    return refuse_skip((yield), collector.config)


def skip_reason(report: Any) -> str:
    """Return why a test, or a whole file, was skipped."""
    return str(report.longrepr[2]).removeprefix("Skipped: ")


def refuse_skip(report: Any, config: pytest.Config) -> Any:
    """Return the report. With --no-skips, turn a skip into a failure, unless it is allowed."""
    if report.skipped and not hasattr(report, "wasxfail") and config.getoption("--no-skips"):
        reason = skip_reason(report)
        if reason != ALLOWED_SKIP:
            report.outcome = "failed"
            report.longrepr = f"skipped, and --no-skips is given: {reason}"
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many tests were skipped, and why."""
    reasons = Counter(skip_reason(report) for report in terminalreporter.stats.get("skipped", []))
    terminalreporter.write_line(f"tests skipped: {reasons.total()}")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"  {count}: {reason}")


def task_module(task: str, name: str) -> ModuleType:
    """Import a module from a task's folder."""
    spec = importlib.util.spec_from_file_location(f"{task}_{name}", ROOT / task / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tiny() -> MPRNet:
    """A complete MPRNet with a few thousand parameters. They are random, and the same in every test."""
    torch.manual_seed(0)
    return MPRNet(n_feat=4, scale_unetfeats=2, scale_orsnetfeats=3, num_cab=1, reduction=2).eval()


@pytest.fixture
def import_benchmark(monkeypatch) -> Iterator[Callable[[str], ModuleType]]:
    """A function that imports a module of benchmarks/ by name."""
    names = [path.stem for path in (ROOT / "benchmarks").glob("*.py")]
    for name in names:  # tests/ has a package of the same name, training
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def list_children() -> Callable[[], set[BaseProcess]]:
    """A function that returns the child processes, still running, that were started after the beginning of the test.

    Python may not yet have deleted the loaders of earlier tests. Their workers do not count.
    """
    before = set(multiprocessing.active_children())
    return lambda: set(multiprocessing.active_children()) - before


@pytest.fixture(scope="session")
def identity(tmp_path_factory) -> Path:
    """A file of weights of a network that returns its input. So every pixel of a result can be checked."""
    model = MPRNet(n_feat=4, scale_unetfeats=2, scale_orsnetfeats=2, num_cab=1, reduction=2)
    with torch.no_grad():
        for layer in (model.tail, model.sam12.conv2, model.sam23.conv2):
            layer.weight.zero_()
    path = tmp_path_factory.mktemp("weights") / "identity.pth"
    save_weights(model, path)
    return path


# Chromium finds this machine under another name, too, as after DNS rebinding.
OTHER_NAME = "--host-resolver-rules=MAP evil.example 127.0.0.1"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, controlled by Playwright. Skips the test if one of them is not installed."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if chromium is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as driver:
        chromium_browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", OTHER_NAME])
        yield chromium_browser
        chromium_browser.close()
