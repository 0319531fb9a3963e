"""The model on paper computes what it says, and its page holds what it computes."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "bench"))
import predicted  # noqa: E402


def test_a_power_law_is_carried_on_and_its_error_is_that_of_the_last_size():
    """An exponent taken from the predicted point itself would always look right."""
    law = [(size, 3 * size**1.5) for size in (10.0, 100.0, 1000.0)]
    assert predicted.slope(law) == pytest.approx(1.5)
    assert predicted.error(law) == (pytest.approx(law[-1][1]), pytest.approx(0))
    found, share = predicted.error([*law[:2], (1000.0, 2 * law[-1][1])])
    assert found == pytest.approx(law[-1][1]) and share == pytest.approx(-0.5)
    assert predicted.grown(7.0, 2.0, 6.0) == 21.0


def test_only_what_is_shared_shrinks_with_workers():
    """A cluster of a thousand does not make the serial part go away."""
    line = predicted.Line("", "", shared=80.0, alone=5.0)
    assert [line.seconds(workers) for workers in (1, 8, 80)] == [85, 15, 6]
    parts = {line.part: line for line in predicted.times()}
    assert all(part.seconds(64) <= part.seconds(1) and part.seconds(1) > 0 for part in parts.values())
    assert [clock for clock in map(predicted.clock, (59, 600, 36000, 1e6))] == [
        "59 s",
        "10.0 min",
        "10.0 h",
        "11.6 days",
    ]


def test_the_calls_are_those_of_the_dry_run():
    """The bill on the page and the one that a user is shown must be one."""
    need = predicted.asked()
    assert need["calls"] == sum(item.calls for item in predicted.calls()) > 10e6
    assert need["usd"] == pytest.approx(need["prompt"] * 0.075e-6 + need["completion"] * 0.3e-6)


def test_the_page_holds_what_is_computed():
    """Tables typed by hand, or left from an earlier measurement, are believed all the same."""
    page = predicted.PAGE.read_text(encoding="utf-8")
    assert predicted.written(page) == page, "python tests/bench/predicted.py --write"
