"""The edge as a process, PostgreSQL really stopped under it: `benchmarks/edge_outage.py` in its short form."""

from __future__ import annotations

from pathlib import Path

from benchmarks.edge_outage import outage_run

# Not under test is how a disk keeps its promises; a killed server's writes stay with the kernel. That a commit waits
# for its writes is: without it a killed server forgets clicks it had taken.
_FAST = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB"}


CLICKS = 5_000


def test_no_click_is_lost_or_doubled_while_postgresql_is_killed_and_started_again(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    outage = outage_run(tmp_path, clicks=CLICKS, rate=1_500, outage_s=0.5, kill=True, settings=_FAST)

    assert len(outage.given) >= CLICKS
    assert outage.refused == 0
    assert (outage.lost, outage.doubled) == (set(), set())
    assert outage.spooled > 0
    # Attribution's own query found those that were followed; how soon (cps.md §7) is the benchmark's to say.
    assert outage.attributable_ms
