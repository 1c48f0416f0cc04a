from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.clock import SharedClock
from core.pagination import BadPage, PageRequest, decode_cursor, encode_cursor, page_of

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_one_process_moves_the_clock_and_another_sees_it(tmp_path: Path) -> None:
    driver, reader = SharedClock(tmp_path / "clock"), SharedClock(tmp_path / "clock")

    driver.freeze(AT)
    driver.advance(timedelta(days=14))

    assert reader.frozen
    assert reader.now() == AT + timedelta(days=14)


def test_a_running_clock_keeps_its_offset_when_it_jumps(tmp_path: Path) -> None:
    clock = SharedClock(tmp_path / "clock")
    clock.run_from(AT)
    clock.advance(timedelta(days=1))

    assert timedelta(0) <= clock.now() - AT - timedelta(days=1) < timedelta(minutes=1)


def test_a_clock_never_goes_back(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        SharedClock(tmp_path / "clock").advance(timedelta(seconds=-1))


def test_a_cursor_reads_back_and_a_foreign_one_is_refused() -> None:
    assert decode_cursor(encode_cursor("2026", "联域")) == ("2026", "联域")
    for text in ("é", "a", "____"):
        with pytest.raises(BadPage):
            decode_cursor(text)


@pytest.mark.parametrize("first", [0, 101, -1])
def test_a_page_has_a_size(first: int) -> None:
    with pytest.raises(BadPage):
        PageRequest(first)


def test_the_extra_row_says_that_there_is_more() -> None:
    page = page_of([1, 2, 3], PageRequest(2), lambda n: (str(n),))

    assert (list(page.items), page.has_next, decode_cursor(page.cursors[1])) == ([1, 2], True, ("2",))
