"""SiliconFlow's video API over httpx: submit, ask for the state, fetch the file before its address expires.

A submission is paid for and has no idempotency key: it is sent once from here, and one whose answer is lost raises
OutcomeUnknownError. Its state is asked with POST, which costs nothing and may be repeated. No list of submissions is
offered, so that what was lost can be found by a person in the console only. Called by `synthesis/engines/`.
"""

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ettametta_pipelines.failures import FailureKind, OutcomeUnknownError, PermanentError
from ettametta_pipelines.redaction import redact
from ettametta_pipelines.vendors.http import (
    ErrorRule,
    call_with_retries,
    http_client,
    raise_for_vendor,
    send,
    unreadable_answer,
)
from ettametta_pipelines.vendors.pictures import picture_type
from ettametta_pipelines.vendors.video_files import fetch_video

if TYPE_CHECKING:
    import httpx

    from ettametta_pipelines.settings import VendorEndpoint

VENDOR = "SiliconFlow"
STATES = ("InQueue", "InProgress", "Succeed", "Failed")
# Statuses that say no work was begun; the other 5xx may come from a proxy that lost a good answer.
NOT_BEGUN = frozenset({503})

_KEY = ErrorRule(
    FailureKind.NEEDS_PERSON,
    "api_key_rejected",
    "Check SILICON_FLOW_API_KEY at siliconflow.com, and that SILICON_FLOW_BASE_URL is the site of its account.",
)
_BUSY = ErrorRule(FailureKind.TRANSIENT, "rate_limited", "It is tried again by itself, more slowly.")
REASONS = {
    "unauthorized": _KEY,
    "forbidden": _KEY,
    "rate_limited": _BUSY,
    "overloaded": _BUSY,
    "model_retired": ErrorRule(
        FailureKind.PERMANENT,
        "siliconflow_model_retired",
        "Set SILICON_FLOW_MODEL to a model that still exists.",
    ),
    "content_refused": ErrorRule(
        FailureKind.PERMANENT,
        "content_refused",
        "Write another prompt; the same one is refused again.",
    ),
}
_BY_STATUS = {401: "unauthorized", 403: "forbidden", 429: "rate_limited"}
_REFUSING_WORDS = ("sensitive", "safety", "prohibited", "nsfw", "moderation", "policy")


@dataclass(frozen=True)
class VideoState:
    """How a submission stands: `url` when it succeeded, `reason` (the vendor's words) when it failed."""

    state: Literal["InQueue", "InProgress", "Succeed", "Failed"]
    reason: str = ""
    url: str = ""
    seed: int | None = None
    inference_s: float | None = None


class SiliconFlowClient:
    """One account of SiliconFlow. Raises PipelineError subclasses only."""

    def __init__(self, endpoint: "VendorEndpoint", *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.endpoint = endpoint
        self._sleep = sleep
        self._http = http_client(
            endpoint, headers={"Authorization": f"Bearer {endpoint.secret('silicon_flow_api_key')}"}
        )

    def submit(
        self,
        model: str,
        prompt: str,
        size: str,
        *,
        negative_prompt: str = "",
        seed: int | None = None,
        image: bytes | None = None,
    ) -> str:
        """Order one video (`size` as in `720x1280`); returns its request id. Sent once, whatever happens.

        Raises OutcomeUnknownError `answer_lost` when it may have been taken and charged.
        """
        doing = "make a video"
        body: dict[str, Any] = {"model": model, "prompt": prompt, "image_size": size}
        if negative_prompt:
            body["negative_prompt"] = negative_prompt
        if seed is not None:
            body["seed"] = seed
        if image is not None:
            mime = picture_type(image[:16]) or "image/jpeg"
            body["image"] = f"data:{mime};base64,{base64.b64encode(image).decode()}"
        response = send(
            self._http, "POST", "video/submit", vendor=VENDOR, doing=doing, repeatable=False, json=body
        )
        if response.status_code >= 500 and response.status_code not in NOT_BEGUN:
            raise answer_lost(f"answered HTTP {response.status_code}")
        _raise_refusal(response, doing)
        try:
            request_id = response.json()["requestId"]
        except (ValueError, KeyError, TypeError):
            raise answer_lost("sent something unreadable") from None
        if not isinstance(request_id, str) or not request_id:
            raise answer_lost("named no request id")
        return request_id

    def state(self, request_id: str) -> VideoState:
        """How a submission stands; may be asked as often as wanted."""
        doing = "tell how a video stands"

        def ask() -> "httpx.Response":
            response = send(
                self._http, "POST", "video/status", vendor=VENDOR, doing=doing, json={"requestId": request_id}
            )
            _raise_refusal(response, doing)
            return response

        response = call_with_retries(
            ask, retries=self.endpoint.max_retries, sleep=self._sleep, seed=request_id
        )
        try:
            body = response.json()
            state = body["status"]
            if state not in STATES:
                raise ValueError(state)
            results = body.get("results") or {}
            videos = results.get("videos") or [{}]
            url = str(videos[0].get("url") or "")
            if state == "Succeed" and not url:
                raise ValueError("a finished clip without an address")
            timings = results.get("timings") or {}
            inference, seed = timings.get("inference"), results.get("seed")
            return VideoState(
                state,
                redact(str(body.get("reason") or ""))[:200],
                url,
                seed if isinstance(seed, int) else None,
                float(inference) if isinstance(inference, int | float) else None,
            )
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise unreadable_answer(VENDOR, doing) from None

    def download(self, url: str, path: Path) -> None:
        """Fetch a finished file. Raises as `fetch_video`."""
        call_with_retries(
            lambda: fetch_video(self.endpoint, url, path, vendor=VENDOR),
            retries=self.endpoint.max_retries,
            sleep=self._sleep,
            seed=str(path.name),
        )

    def check_key(self) -> None:
        """A free question that shows whether the key works."""
        response = send(self._http, "GET", "models", vendor=VENDOR, doing="list its models")
        _raise_refusal(response, "list its models")


def refusal_of(reason: str) -> PermanentError:
    """The failure of a submission that ended as Failed, by the vendor's words."""
    if any(word in reason.casefold() for word in _REFUSING_WORDS):
        rule = REASONS["content_refused"]
        return PermanentError(
            f"{VENDOR} refused to make the clip: {reason.rstrip('.') or 'no reason given'}.",
            code=rule.code,
            remedy=rule.remedy,
        )
    return PermanentError(
        f"{VENDOR} could not make the clip: {reason.rstrip('.') or 'no reason given'}.",
        code="clip_failed",
        remedy="Order it again with ask_again, or with another engine.",
    )


def answer_lost(what: str) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        f"{VENDOR} {what} when asked to make a video, so it is not known whether it was ordered and charged.",
        code="answer_lost",
        remedy="It is not ordered again by itself; look it up in the vendor's console.",
    )


def _raise_refusal(response: "httpx.Response", doing: str) -> None:
    """Refusals come as `{"code", "message", "data"}`, as a bare JSON string with 401, or as plain text."""
    if response.status_code < 300:
        return
    try:
        told = response.json()
    except ValueError:
        told = response.text
    code, detail = "", str(told)
    if isinstance(told, dict):
        code, detail = str(told.get("code") or ""), str(told.get("message") or "")
    raise_for_vendor(
        response,
        vendor=VENDOR,
        doing=doing,
        reason=_BY_STATUS.get(response.status_code) or _reason(code, detail.casefold()),
        detail=detail,
        rules=REASONS,
    )


def _reason(code: str, detail: str) -> str:
    """The reason by the vendor's number; 20012 is for every bad field, so its words decide."""
    if any(word in detail for word in _REFUSING_WORDS):
        return "content_refused"
    if code == "20012" and "model" in detail:
        return "model_retired"
    return "overloaded" if code == "50505" else ""
