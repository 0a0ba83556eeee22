"""The option --no-skips, which CI uses: a skipped test fails, unless no installation can prevent the skip."""

from types import SimpleNamespace

import pytest
from conftest import ALLOWED_SKIP, refuse_skip


def refuse(reason: str, no_skips: bool) -> SimpleNamespace:
    report = SimpleNamespace(skipped=True, outcome="skipped", longrepr=("test.py", 1, f"Skipped: {reason}"))
    return refuse_skip(report, SimpleNamespace(getoption=lambda name: {"--no-skips": no_skips}[name]))


@pytest.mark.parametrize(
    ("reason", "no_skips", "outcome"),
    [
        ("there is no Chromium", True, "failed"),
        ("there is no Chromium", False, "skipped"),
        (ALLOWED_SKIP, True, "skipped"),
    ],
)
def test_a_skip_fails_with_no_skips_unless_it_is_allowed(reason, no_skips, outcome):
    report = refuse(reason, no_skips)
    assert report.outcome == outcome
    assert reason in str(report.longrepr)


def test_an_expected_failure_is_not_a_skip():
    report = SimpleNamespace(skipped=True, outcome="skipped", wasxfail="known", longrepr="")
    assert refuse_skip(report, SimpleNamespace(getoption=lambda name: True)).outcome == "skipped"
