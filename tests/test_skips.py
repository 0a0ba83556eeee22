"""--no-skips, which CI gives: a test that is skipped fails, unless no installation helps."""

from types import SimpleNamespace

import pytest
from conftest import ALLOWED_SKIP, refuse_skip


def judged(reason: str, given: bool) -> SimpleNamespace:
    report = SimpleNamespace(skipped=True, outcome="skipped", longrepr=("test.py", 1, f"Skipped: {reason}"))
    return refuse_skip(report, SimpleNamespace(getoption=lambda name: {"--no-skips": given}[name]))


@pytest.mark.parametrize(
    ("reason", "given", "outcome"),
    [
        ("there is no Chromium", True, "failed"),
        ("there is no Chromium", False, "skipped"),
        (ALLOWED_SKIP, True, "skipped"),
    ],
)
def test_a_skip_fails_where_none_is_allowed(reason, given, outcome):
    report = judged(reason, given)
    assert report.outcome == outcome
    assert reason in str(report.longrepr)


def test_an_expected_failure_is_no_skip():
    report = SimpleNamespace(skipped=True, outcome="skipped", wasxfail="known", longrepr="")
    assert refuse_skip(report, SimpleNamespace(getoption=lambda name: True)).outcome == "skipped"
