"""Claims about what is told of bytes that arrive."""

from __future__ import annotations

import logging

import pytest

from bcdx.catalogue.progress import Report


def test_report_logs_a_line_a_minute_with_speed_and_rest(caplog: pytest.LogCaptureFixture) -> None:
    """At the speed of the last minute; where nothing arrived, what is left cannot be told."""
    caplog.set_level(logging.INFO, "bcdx")
    seconds = iter([0.0, 30.0, 59.0, 61.0, 90.0, 121.0])
    report = Report(10_000_000_000, clock=lambda: next(seconds))
    for count in (200_000_000, 100_000_000, 310_000_000, 1, -1):
        report.add(count)
    assert ["0.61 of 10.00 GB, 10.0 MB/s, about 0 h 16 min left", "0.61 of 10.00 GB"] == caplog.messages
