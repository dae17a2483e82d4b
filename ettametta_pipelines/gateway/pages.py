"""Rendering of the operators' pages: templates, words and times. Whoever may see them is `operators.py`'s business.

Everything is escaped by the templates; addresses become links only if they are web addresses. No page needs a script.
"""

import re
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from ettametta_pipelines.commerce.targets import shown_host
from ettametta_pipelines.gateway.operators import Operator, PageRefused
from ettametta_pipelines.untrusted import plain_text

FOLDER = Path(__file__).parent / "templates"
_WEB_ADDRESS = re.compile(r"https?://[^\s\"'<>\\]+")

PLATFORM_NAMES = {"youtube": "YouTube", "tiktok": "TikTok"}
# State -> what an operator calls it.
STATE_WORDS = {
    "PLANNED": "planned",
    "SESSION_OPEN": "uploading",
    "FINALIZING": "last bytes on their way",
    "PROCESSING": "in processing",
    "RECONCILING": "being looked for",
    "PUBLISHED": "published",
    "FAILED_DEFINITE": "not posted",
    "NEEDS_REVIEW": "needs a person",
    "INCIDENT": "posted more than once",
    "active": "connected",
    "reauth_required": "consent ended",
}


def when(moment: datetime | str | None) -> str:
    """A moment for people, in UTC; an en dash for none."""
    if moment is None or moment == "":
        return "–"
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    iso = at.astimezone(UTC).isoformat(timespec="seconds")
    return Markup('<time datetime="{}">{}</time>').format(iso, f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC")


def web_address(address: str | None) -> str:
    """The address if a browser may be sent there, else nothing."""
    return address if address and _WEB_ADDRESS.fullmatch(address) else ""


def line(text: object, limit: int = 200) -> str:
    """One visible line of text from outside."""
    return plain_text(str(text), limit)


_TEMPLATES = Environment(
    loader=FileSystemLoader(FOLDER),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {
    "when": when,
    "web_address": web_address,
    "line": line,
    "shown_host": shown_host,
    "state_words": lambda state: STATE_WORDS.get(state, state),
    "platform_name": lambda platform: PLATFORM_NAMES.get(platform, platform),
}


def page(template: str, operator: Operator | None, *, status: int = 200, **values: Any) -> HTMLResponse:
    """One page. `operator` is None where nobody has been let in."""
    return HTMLResponse(_TEMPLATES.get_template(template).render(operator=operator, **values), status)


def see(location: str) -> Response:
    """Send the browser on after a form, so that loading again repeats nothing."""
    return RedirectResponse(location, 303)


def refusal(error: PageRefused) -> Response:
    if error.location:
        return RedirectResponse(error.location, error.status)
    return page(
        "message.html",
        None,
        status=error.status,
        title=error.title,
        message=error.message,
        remedy=error.remedy,
    )


def wants_a_page(request: Request) -> bool:
    """Whether it is a browser's address bar or link that asks, not a program."""
    return request.method == "GET" and "text/html" in request.headers.get("accept", "")


def nothing_there(detail: str) -> Response:
    """For an address that leads nowhere; `detail` is what was said of it, or Starlette's own word."""
    said = "Nothing is at this address" if detail == HTTPStatus.NOT_FOUND.phrase else detail.capitalize()
    return refusal(PageRefused(404, "Not found", f"{said}.", "The pages there are stand above."))


def stylesheet() -> Response:
    return _static("gateway.css", "text/css")


def icon() -> Response:
    return _static("icon.svg", "image/svg+xml")


def _static(name: str, media_type: str) -> Response:
    return Response(
        (FOLDER / name).read_text(), media_type=media_type, headers={"Cache-Control": "max-age=300"}
    )
