"""Why a candidate stands where it does, in words, from the parts of its strength.

One sentence a row, made of the row's own columns; no figure appears that is not in the table. Called by `trends.py`.
"""

from collections.abc import Mapping
from typing import Any

from ettametta_pipelines.previews import number

_BASIS = {
    "snapshots": "seen at the same age",
    "growth_curve": "brought to the same age by the growth curve",
    "both": "seen at the same age or brought to it by the growth curve",
}


def why_ranked(row: Mapping[str, Any], candidates: int) -> str:
    """Velocity, acceleration, outlier ratio and what weakens them; `candidates` are ranked on the row's platform."""
    parts = [_speed(row, candidates), _outlier(row)]
    if row.get("view_acceleration_per_hour2") is not None:
        parts.insert(1, _acceleration(row["view_acceleration_per_hour2"]))
    if row.get("also_in"):
        parts.append(f"also found in {', '.join(row['also_in'])}")
    if row.get("reupload_of"):
        parts.append(f"the same footage as {row['reupload_of']}")
    return "; ".join(parts) + "."


def _speed(row: Mapping[str, Any], candidates: int) -> str:
    # A mid-rank percentile counted from the top; equals share a place.
    from_top = round(candidates * (1 - row["velocity_part"]) + 0.5)
    place = "" if candidates < 2 else f", number {from_top} of {candidates} by speed"
    if row.get("velocity_basis") == "last_interval":
        over = f"over the last {_hours(row['velocity_interval_h'])}"
    else:
        over = f"on average since it came out {_hours(row['age_h'])} ago (seen once)"
    return f"{_rounded(row['view_velocity_per_hour'])} views/h {over}{place}"


def _acceleration(value: float) -> str:
    if value == 0:
        return "at a steady pace"
    return f"{'gaining' if value > 0 else 'losing'} {_rounded(abs(value))} views/h every hour"


def _outlier(row: Mapping[str, Any]) -> str:
    ratio, uploads = row["outlier_ratio"], row.get("outlier_uploads")
    if ratio is None:
        return "what its channel usually has is not known, which counts as the middle"
    basis = _BASIS.get(row.get("baseline_basis") or "", "of its channel")
    said = f"{number(ratio, digits=1)} times what its channel usually has, {basis}"
    certainty = row.get("outlier_certainty")
    if certainty is not None and certainty < 0.75:
        known = "one other upload is" if uploads == 1 else f"{uploads} other uploads are"
        plain = number(row["unshrunk_outlier_ratio"], digits=1)
        said += f" (held back: only {known} known; {plain} times as it stands)"
    return said


def _rounded(value: float) -> str:
    """Three digits are enough to judge by, and a velocity times its hours must not give a deleted counter back."""
    value = float(f"{value:.3g}")
    return number(value, digits=0 if abs(value) >= 100 else 1)


def _hours(hours: float) -> str:
    return f"{hours:.0f} h" if hours >= 1.5 else f"{hours * 60:.0f} min"
