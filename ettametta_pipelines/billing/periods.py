"""Monthly periods from an anchor, as Stripe counts them: same day and time each month, a shorter month's last day.

Pure arithmetic on UTC instants: a period has no time zone, so clock changes neither shorten nor repeat one. An anchor
on 31 January gives 28 February and 31 March again, never 28 March. Called by `entitlements.py` and `reservations.py`.
"""

from calendar import monthrange
from datetime import UTC, datetime


def boundary(anchor: datetime, months: int) -> datetime:
    """The anchor moved by whole months; negative goes back."""
    anchor = anchor.astimezone(UTC)
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    return anchor.replace(year=year, month=month + 1, day=min(anchor.day, monthrange(year, month + 1)[1]))


def period_of(anchor: datetime, instant: datetime) -> tuple[datetime, datetime]:
    """The period [start, end) that holds an aware instant, also one before the anchor."""
    anchor, instant = anchor.astimezone(UTC), instant.astimezone(UTC)
    months = (instant.year - anchor.year) * 12 + instant.month - anchor.month
    if boundary(anchor, months) > instant:
        months -= 1
    return boundary(anchor, months), boundary(anchor, months + 1)


def boundary_from(anchor: datetime, earliest: datetime) -> datetime:
    """The first boundary at or after `earliest`."""
    start, end = period_of(anchor, earliest)
    return start if start == earliest else end
