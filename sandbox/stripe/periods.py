"""Billing periods in the calendar: a month from the 31st ends on the last day of a shorter month, and returns to the 31st."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from typing import Any

FIXED = {"day": 86400, "week": 7 * 86400}
MONTHS = {"month": 1, "year": 12}


def moved(anchor: int, interval: str, count: int) -> int:
    """An anchor moved on by so many intervals."""
    if interval in FIXED:
        return anchor + count * FIXED[interval]
    start = datetime.fromtimestamp(anchor, UTC)
    year, month = divmod(start.year * 12 + start.month - 1 + count * MONTHS[interval], 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return int(start.replace(year=year, month=month + 1, day=day).timestamp())


def next_end(anchor: int, start: int, recurring: dict[str, Any]) -> int:
    """The first end of a period after its start, counted from the anchor."""
    interval, step = recurring["interval"], recurring["interval_count"]
    seconds = FIXED.get(interval) or MONTHS[interval] * 28 * 86400
    # Shorter than any real interval, so that the guess is never past the end that is looked for.
    count = max(0, (start - anchor) // (seconds * step) * 9 // 10 - 1)
    while (end := moved(anchor, interval, count * step)) <= start:
        count += 1
    return end
