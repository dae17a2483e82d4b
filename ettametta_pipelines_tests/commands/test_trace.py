"""`ettametta trace` fits a screen, and has everything on demand."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from ettametta_pipelines.commands.trace import print_trace

SCREEN = 40


def busy_chain() -> dict[str, Any]:
    """A video with far more behind it than fits a screen."""
    event = {"at": "2026-11-22", "from_state": "CLAIMED", "to_state": "UPLOADING", "reason": "chunk"}
    return {
        "source_id": "acme--1",
        "source": {"title": "Ten knives" * 20, "verdict": "accepted", "object_key": "media/sources/" + "0" * 64},
        "analysis": {"shot_count": 3},
        "renditions": [{"format": str(n), "object_key": f"media/renditions/{n}.mp4"} for n in range(9)],
        "thumbnails": [
            {"shape": "9x16", "rank": n, "variant": "plain", "object_key": f"t{n}.jpg", "sha256": str(n)}
            for n in range(18)
        ],
        "publications": [
            {
                "platform": "youtube", "state": "FAILED_DEFINITE", "intent_no": n, "error_code": "forbidden",
                "error_message": "No.", "publication_id": f"p{n}", "events": [event] * 12,
                "rights": [{"kind": "source", "id": "acme--1", "right": "owned"}] * 4,
            }
            for n in range(8)
        ],
        "metrics": [{"platform": "youtube", "observed_at": str(n), "views": n} for n in range(50)],
        "revenue": [
            {
                "platform": "youtube", "source": "stripe", "rule": f"r{n}", "net_minor": 1, "currency": "USD",
                "livemode": True, "items": 1, "first_day": "a", "last_day": "b",
            }
            for n in range(12)
        ],
        "costs": [{"kind": f"k{n}", "vendor": "v", "cost_microusd": 1, "calls": 1} for n in range(12)],
    }  # fmt: skip


def lines(*, full: bool, terminal: bool) -> list[str]:
    console = Console(width=100, file=StringIO(), force_terminal=terminal, color_system=None)
    print_trace(busy_chain(), console, full=full)
    return str(console.file.getvalue()).splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_trace_fits_a_screen_and_says_what_it_leaves_out(terminal: bool) -> None:
    shown = lines(full=False, terminal=terminal)
    assert len(shown) <= SCREEN
    assert any("5 older with --full" in line for line in shown)
    assert any("9 more with --full" in line for line in shown)
    # Whoever searches in it gets whole lines.
    assert any("0" * 64 in line for line in shown) is not terminal


def test_a_full_trace_has_everything() -> None:
    text = "\n".join(lines(full=True, terminal=False))
    assert text.count("UPLOADING") == 8 * 12
    assert text.count("not used") == 18
    assert "--full" not in text
