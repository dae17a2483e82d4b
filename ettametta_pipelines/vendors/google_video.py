"""Google's video models through google-genai, by either of its ways: interactions on an API key, Veo on Vertex.

Which way a model is asked is configuration (`synthesis/engines.yaml`), since models move between them and are retired.
A submission is paid for and has no idempotency key on either way. The SDK repeats those of interactions five times
unless told not to; here nothing is repeated by it. Neither way lists what was submitted.
Called by `synthesis/engines/`.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ettametta_pipelines.failures import (
    FailureKind,
    NeedsPersonError,
    OutcomeUnknownError,
    PermanentError,
    PipelineError,
)
from ettametta_pipelines.redaction import redact
from ettametta_pipelines.vendors.gemini import REASONS as GEMINI_REASONS
from ettametta_pipelines.vendors.gemini import UNCHARGED_STATUSES
from ettametta_pipelines.vendors.http import (
    ErrorRule,
    MadeOnce,
    call_with_retries,
    is_loopback,
    network_error,
    quiet_request_logs,
    unreadable_answer,
    vendor_error,
)
from ettametta_pipelines.vendors.pictures import picture_type
from ettametta_pipelines.vendors.video_files import fetch_video

if TYPE_CHECKING:
    from google.genai import Client

    from ettametta_pipelines.settings import VendorEndpoint

T = TypeVar("T")

VENDOR = "Google"
Backend = Literal["interactions", "vertex"]
# Where its finished files lie, and are redirected to.
FILE_HOSTS = ("googleapis.com", "googleusercontent.com")
RUNNING = frozenset({"queued", "in_progress"})
# google.rpc codes of operations that failed for reasons of the service's own.
_SERVICE_CODES = frozenset({4, 8, 13, 14})
_SAFETY_WORDS = ("safety", "blocked", "prohibited", "policy", "sensitive", "violat", "rai")

REASONS: Mapping[str, ErrorRule] = {
    **GEMINI_REASONS,
    "NOT_FOUND": ErrorRule(
        FailureKind.PERMANENT,
        "veo_model_retired",
        "Set VEO_MODEL to a model of engines.yaml that still exists.",
    ),
    "INVALID_ARGUMENT": ErrorRule(
        FailureKind.PERMANENT,
        "clip_request_refused",
        "The request itself was refused; see what the message names.",
    ),
}


@dataclass(frozen=True)
class FinishedVideo:
    """A video that is ready: its bytes or where they lie, and the tokens the answer counts (None if it tells none)."""

    uri: str = ""
    data: bytes = field(default=b"", repr=False)
    output_tokens: int | None = None


@dataclass(frozen=True)
class VideoWish:
    """What is asked of a model: `size` in pixels upright or wide, whole seconds, and perhaps a still to start from."""

    prompt: str
    width: int
    height: int
    seconds: int
    seed: int
    negative_prompt: str = ""
    image: bytes | None = field(default=None, repr=False)

    @property
    def aspect(self) -> str:
        return "9:16" if self.height > self.width else "16:9"

    @property
    def resolution(self) -> str:
        return f"{min(self.width, self.height)}p"


class GoogleVideoClient:
    """One model on one way. Raises PipelineError subclasses only."""

    def __init__(
        self, endpoint: "VendorEndpoint", model: str, backend: Backend, *, location: str = "us-central1"
    ) -> None:
        self.endpoint = endpoint
        self.model = model
        self.backend = backend
        self._location = location
        self._client = MadeOnce(self._make_client)

    def _make_client(self) -> "Client":
        from google import genai
        from google.genai import types

        quiet_request_logs()
        base_url = self.endpoint.base_url
        options = types.HttpOptions(
            base_url=base_url,
            timeout=int(self.endpoint.timeout_s * 1000),
            retry_options=types.HttpRetryOptions(attempts=1),
            # A redirect would carry the key along.
            client_args={"trust_env": not is_loopback(base_url), "follow_redirects": False},
        )
        if self.backend == "interactions":
            return genai.Client(
                vertexai=False, api_key=self.endpoint.secret("gemini_api_key"), http_options=options
            )
        credentials = None
        if is_loopback(base_url):
            from google.oauth2.credentials import Credentials

            # The sandbox's; the real one's are the machine's own (application default credentials).
            credentials = Credentials("sandbox-vertex-token")  # type: ignore[no-untyped-call]
        return genai.Client(
            vertexai=True,
            project=self.endpoint.secret("vertex_project"),
            location=self._location,
            credentials=credentials,
            http_options=options,
        )

    def submit(self, wish: VideoWish) -> str:
        """Order one video; returns the name of its operation. Sent once, whatever happens.

        Raises OutcomeUnknownError `answer_lost` when it may have been taken and charged.
        """
        order = self._interact if self.backend == "interactions" else self._predict
        name = self._asked(lambda: order(wish), "make a video", repeatable=False)
        if not name:
            raise answer_lost("named no operation")
        return str(name)

    def _interact(self, wish: VideoWish) -> Any:
        said: list[dict[str, Any]] = [{"type": "text", "text": wish.prompt}]
        if wish.image is not None:
            said.append(
                {
                    "type": "image",
                    "data": base64.b64encode(wish.image).decode(),
                    "mime_type": picture_type(wish.image[:16]) or "image/jpeg",
                }
            )
        made = self._client().interactions.create(
            model=self.model,
            input=said,
            background=True,
            store=True,
            generation_config={
                "seed": wish.seed & 0x7FFFFFFF,
                "video_config": {"task": "text_to_video" if wish.image is None else "image_to_video"},
            },
            response_format={
                "type": "video", "aspect_ratio": wish.aspect, "delivery": "uri", "duration": f"{wish.seconds}s",
                "resolution": wish.resolution,
            },
        )  # fmt: skip
        return getattr(made, "id", None)

    def _predict(self, wish: VideoWish) -> Any:
        from google.genai import types

        image = None
        if wish.image is not None:
            image = types.Image(
                image_bytes=wish.image, mime_type=picture_type(wish.image[:16]) or "image/jpeg"
            )
        made = self._client().models.generate_videos(
            model=self.model,
            source=types.GenerateVideosSource(prompt=wish.prompt, image=image),
            config=types.GenerateVideosConfig(
                number_of_videos=1,
                duration_seconds=wish.seconds,
                seed=wish.seed,
                aspect_ratio=wish.aspect,
                resolution=wish.resolution,
                negative_prompt=wish.negative_prompt or None,
            ),
        )
        return made.name

    def look(self, operation: str) -> FinishedVideo | None:
        """How an operation stands: None while it runs. May be asked as often as wanted.

        Raises PermanentError `content_refused` with Google's reason, `clip_failed` or `clip_expired`.
        """
        ask = self._interaction if self.backend == "interactions" else self._operation
        return call_with_retries(
            lambda: self._asked(lambda: ask(operation), "tell how a video stands", repeatable=True),
            retries=self.endpoint.max_retries,
            seed=operation,
        )

    def _interaction(self, operation: str) -> FinishedVideo | None:
        found: Any = self._client().interactions.get(operation)
        if found.status in RUNNING:
            return None
        steps = [step for step in found.steps or [] if getattr(step, "type", "") == "model_output"]
        failed = [step.error for step in steps if getattr(step, "error", None)] + list(found.errors or [])
        for content in (content for step in steps for content in step.content or []):
            if getattr(content, "type", "") == "video" and (content.uri or content.data):
                data = base64.b64decode(content.data) if content.data else b""
                return FinishedVideo(
                    content.uri or "", data, getattr(found.usage, "total_output_tokens", None)
                )
        said = "; ".join(str(getattr(error, "message", "") or "") for error in failed)
        raise _ended(said or f"it ended as {found.status}")

    def _operation(self, operation: str) -> FinishedVideo | None:
        from google.genai import types

        asked = types.GenerateVideosOperation.model_validate({"name": operation})
        found = self._client().operations.get(asked)
        if not found.done:
            return None
        if found.error:
            error = found.error
            if int(error.get("code") or 0) in _SERVICE_CODES:
                raise _ended(str(error.get("message") or ""), refused=False)
            raise _ended(str(error.get("message") or ""))
        response = found.response or found.result
        if response is not None:
            for made in response.generated_videos or []:
                if made.video is not None and (made.video.video_bytes or made.video.uri):
                    return FinishedVideo(made.video.uri or "", made.video.video_bytes or b"")
            if response.rai_media_filtered_count:
                reasons = "; ".join(response.rai_media_filtered_reasons or [])
                raise _ended(reasons or "every clip was filtered", refused=True)
        raise _ended("it ended without a video")

    def download(self, video: FinishedVideo, path: Path) -> None:
        """Write the finished video to `path`. Raises as `fetch_video`."""
        if video.data:
            path.write_bytes(video.data)
            return
        key = (
            {"x-goog-api-key": self.endpoint.secret("gemini_api_key")}
            if self.backend == "interactions"
            else {}
        )
        call_with_retries(
            lambda: fetch_video(self.endpoint, video.uri, path, vendor=VENDOR, hosts=FILE_HOSTS, headers=key),
            retries=self.endpoint.max_retries,
            seed=path.name,
        )

    def _asked(self, request: Callable[[], T], doing: str, *, repeatable: bool) -> T:
        import httpx
        import httpx2
        from google.auth.exceptions import GoogleAuthError
        from google.genai import errors
        from google.genai._gaos.lib import compat_errors

        # Two families of errors that share no base class, on either of two HTTP libraries that share none.
        try:
            return request()
        except errors.APIError as error:
            status, reason, message = int(error.code), str(error.status or ""), str(error.message or "")
        except (httpx.RequestError, httpx2.RequestError, compat_errors.APIConnectionError) as error:
            cause = error.__cause__ or error.__context__ or error
            unsent = (httpx.ConnectError, httpx.ConnectTimeout, httpx2.ConnectError, httpx2.ConnectTimeout)
            late = (httpx.TimeoutException, httpx2.TimeoutException, compat_errors.APITimeoutError)
            was_sent = not isinstance(error, unsent) and not isinstance(cause, unsent)
            if was_sent and not repeatable:
                raise answer_lost(
                    "did not answer in time" if isinstance(error, late) else "broke the connection"
                ) from None
            raise network_error(
                error, VENDOR, doing, base_url=self.endpoint.base_url, was_sent=was_sent, repeatable=repeatable,
                timed_out=isinstance(error, late),
            ) from None  # fmt: skip
        except compat_errors.APIError as error:
            if error.status_code is None or error.status_code < 300:
                raise self._unreadable(doing, repeatable) from None
            status, (reason, message) = int(error.status_code), _told(error.body)
        except GoogleAuthError as error:
            # Signing in comes first: nothing was sent.
            raise _not_let_in(error) from None
        except PipelineError:
            raise
        except ValueError:
            raise self._unreadable(doing, repeatable) from None
        if not repeatable and status >= 500 and status not in UNCHARGED_STATUSES:
            raise answer_lost(f"answered HTTP {status}")
        if repeatable and status == 404:
            raise PermanentError(
                f"{VENDOR} does not know the operation any more.",
                code="clip_expired",
                remedy="Order the clip again with ask_again; it was fetched too late.",
            )
        raise vendor_error(VENDOR, doing, status=status, reason=reason, detail=message, rules=REASONS)

    def _unreadable(self, doing: str, repeatable: bool) -> PipelineError:
        return unreadable_answer(VENDOR, doing) if repeatable else answer_lost("sent something unreadable")


def check_credentials() -> str:
    """Who this machine signs in as at Google Cloud. Raises NeedsPersonError `vertex_credentials_missing`."""
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request

    try:
        credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
        credentials.refresh(Request())  # type: ignore[no-untyped-call]
    except GoogleAuthError as error:
        raise _not_let_in(error) from None
    return str(getattr(credentials, "service_account_email", None) or project or "a user")


def _not_let_in(error: Exception) -> NeedsPersonError:
    return NeedsPersonError(
        f"Google Cloud does not let this machine in ({type(error).__name__}).",
        code="vertex_credentials_missing",
        remedy="Set GOOGLE_APPLICATION_CREDENTIALS to a key file, or give the machine a service account.",
    )


def answer_lost(what: str) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        f"{VENDOR} {what} when asked to make a video, so it is not known whether it was ordered and charged.",
        code="answer_lost",
        remedy="It is not ordered again by itself; look it up in the vendor's console.",
    )


def _told(body: object) -> tuple[str, str]:
    """Status and message of a google.rpc body."""
    error = body.get("error", body) if isinstance(body, dict) else {}
    if not isinstance(error, dict):
        return "", str(body)[:200]
    return str(error.get("status") or ""), str(error.get("message") or "")


def _ended(said: str, *, refused: bool | None = None) -> PermanentError:
    words = redact(said).strip().rstrip(".")[:200] or "no reason given"
    if refused or (refused is None and any(word in words.casefold() for word in _SAFETY_WORDS)):
        return PermanentError(
            f"{VENDOR} refused to make the clip: {words}.",
            code="content_refused",
            remedy="Write another prompt; the same one is refused again.",
        )
    return PermanentError(
        f"{VENDOR} could not make the clip: {words}.",
        code="clip_failed",
        remedy="Order it again with ask_again, or with another engine.",
    )
