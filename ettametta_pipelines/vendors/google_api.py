"""google-api-python-client on our terms: any base URL, timeouts, no hidden resends, errors in our taxonomy.

The transport is httplib2, as the SDK expects, with three changes that were measured to matter: 308 is an answer of
the resumable protocol and not a redirect; a request whose answer was dropped is not sent a second time behind our
back (httplib2 does that even for uploads); keys and tokens travel as headers, never in a URL that ends in a log.
Used by `youtube.py`.
"""

import json
import re
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ettametta_pipelines.clock import PACIFIC, Clock, business_day_bounds, pacific_quota_day
from ettametta_pipelines.failures import FailureKind, OutcomeUnknownError, PipelineError
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.vendors.http import (
    USER_AGENT,
    ErrorRule,
    call_with_retries,
    is_loopback,
    network_error,
    retry_after_seconds,
    unreadable_answer,
    vendor_error,
)

ACCESS_TOKEN_REJECTED = "access_token_rejected"
QUOTA_EXHAUSTED = "quota_exhausted"

_DAY_S = 86_400.0

_TOKEN = ErrorRule(
    FailureKind.NEEDS_PERSON,
    ACCESS_TOKEN_REJECTED,
    "The token is refreshed by itself once; if that does not help, connect the channel again.",
)
_SCOPE = ErrorRule(
    FailureKind.NEEDS_PERSON,
    "permission_missing",
    "Connect the channel again and grant every permission that is asked for.",
)
_KEY = ErrorRule(
    FailureKind.NEEDS_PERSON,
    "api_key_rejected",
    "Check YOUTUBE_API_KEY and that its Google Cloud project has the YouTube Data API switched on.",
)
_QUOTA = ErrorRule(
    FailureKind.TRANSIENT,
    QUOTA_EXHAUSTED,
    "It goes on by itself after midnight Pacific; ask Google for more quota if this happens often.",
)
_RATE = ErrorRule(FailureKind.TRANSIENT, "rate_limited", "It is tried again by itself, more slowly.")
_ACCOUNT = ErrorRule(
    FailureKind.NEEDS_PERSON,
    "channel_unusable",
    "Sign in to YouTube with this account and see what it asks for.",
)

# Google's reason -> what it means for us. Reasons that are not here go by their HTTP status.
REASONS: Mapping[str, ErrorRule] = {
    "quotaExceeded": _QUOTA,
    "dailyLimitExceeded": _QUOTA,
    "rateLimitExceeded": _RATE,
    "userRateLimitExceeded": _RATE,
    "RATE_LIMIT_EXCEEDED": _RATE,
    "uploadRateLimitExceeded": _RATE,
    "uploadLimitExceeded": ErrorRule(
        FailureKind.TRANSIENT,
        "upload_limit_reached",
        "The channel has reached YouTube's limit of uploads in 24 hours; it goes on by itself a day later.",
        wait_s=_DAY_S,
    ),
    "authError": _TOKEN,
    "required": _TOKEN,
    "insufficientPermissions": _SCOPE,
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": _SCOPE,
    "API_KEY_INVALID": _KEY,
    "keyInvalid": _KEY,
    "accessNotConfigured": _KEY,
    "SERVICE_DISABLED": _KEY,
    "youtubeSignupRequired": _ACCOUNT,
    "authenticatedUserAccountClosed": _ACCOUNT,
    "authenticatedUserAccountSuspended": _ACCOUNT,
    "accountDelegationForbidden": _ACCOUNT,
}

_CORRECT_IT = "Correct what the message names in the video's metadata, then publish it again."
# Refusals of what was asked for: the code is the reason itself, so that a table of failures reads plainly.
_METADATA_REASONS = frozenset(
    {
        "invalidTitle", "invalidDescription", "invalidTags", "invalidCategoryId", "invalidPublishAt",
        "invalidFilename", "invalidRecordingDetails", "invalidVideoGameRating", "invalidVideoMetadata",
        "defaultLanguageNotSet", "mediaBodyRequired", "forbiddenLicenseSetting", "forbiddenPrivacySetting",
        "invalidImage", "badContent",
    }
)  # fmt: skip


class GoogleService:
    """One API of Google for one caller. May be shared: every thread has its own connection."""

    def __init__(
        self,
        endpoint: VendorEndpoint,
        *,
        document: str,
        vendor: str,
        headers: Mapping[str, str],
        clock: Clock,
    ) -> None:
        from googleapiclient.discovery import build_from_document

        self.vendor = vendor
        self._endpoint = endpoint
        self._clock = clock
        self._transport = _Transport(endpoint, headers)
        described = {**_packaged_document(document), "rootUrl": endpoint.base_url.rstrip("/") + "/"}
        self._api: Any = build_from_document(described, http=self._transport)
        self._resources: dict[str, Any] = {}

    def resource(self, name: str) -> Any:
        """One collection of the API, such as `videos`. Kept: the SDK builds all its methods anew on every mention."""
        if name not in self._resources:
            self._resources[name] = getattr(self._api, name)()
        return self._resources[name]

    def read(self, request: Any, doing: str) -> dict[str, Any]:
        """Run a request that changes nothing, again after transient failures."""
        return call_with_retries(
            lambda: self.write(request, doing, repeatable=True),
            retries=self._endpoint.max_retries,
            seed=doing,
        )

    def write(self, request: Any, doing: str, *, repeatable: bool = False) -> dict[str, Any]:
        """Run a request once. A lost answer raises OutcomeUnknownError unless it is `repeatable`."""
        from googleapiclient.errors import HttpError

        try:
            answer = request.execute(num_retries=0)
        except HttpError as error:
            raise self.refusal(int(error.resp.status), error.resp, error.content, doing) from None
        except _network_failures() as error:
            raise self._unanswered(error, doing, repeatable=repeatable) from None
        # The SDK hands a body that is not JSON through as text.
        if not isinstance(answer, dict):
            raise self._unreadable(doing, repeatable=repeatable)
        return answer

    def exchange(
        self,
        uri: str,
        method: str,
        *,
        doing: str,
        body: bytes | str,
        headers: Mapping[str, str],
        repeatable: bool = False,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One bare request with this caller's identity: (status, headers, body), whatever the status."""
        try:
            response, content = self._transport.request(uri, method, body=body, headers=dict(headers))
        except _network_failures() as error:
            raise self._unanswered(error, doing, repeatable=repeatable) from None
        return int(response.status), response, content

    def refusal(self, status: int, headers: Mapping[str, str], content: bytes, doing: str) -> PipelineError:
        """The failure for an answer in Google's error shape (or in none)."""
        reasons, message, is_daily = _read_error(content)
        reason = next((r for r in reasons if r in REASONS), reasons[0] if reasons else "")
        rules = dict(REASONS)
        if reason in _METADATA_REASONS:
            rules[reason] = ErrorRule(FailureKind.PERMANENT, _snake(reason), _CORRECT_IT)
        if is_daily:
            rules[reason] = _QUOTA
        wait = retry_after_seconds(headers.get("retry-after"), self._clock)
        if rules.get(reason) is _QUOTA:
            wait = seconds_to_quota_reset(self._clock)
        return vendor_error(
            self.vendor, doing, status=status, reason=reason, detail=message, rules=rules, retry_after_s=wait
        )

    def _unreadable(self, doing: str, *, repeatable: bool) -> PipelineError:
        if repeatable:
            return unreadable_answer(self.vendor, doing)
        return OutcomeUnknownError(
            f"{self.vendor}'s answer cannot be read, so it is not known whether it did {doing}.",
            code="answer_lost",
            remedy="It is looked up before anything is sent again.",
        )

    def _unanswered(self, error: Exception, doing: str, *, repeatable: bool) -> PipelineError:
        from httplib2 import ServerNotFoundError

        return network_error(
            error,
            self.vendor,
            doing,
            base_url=self._endpoint.base_url,
            was_sent=not isinstance(error, ConnectionRefusedError | ServerNotFoundError),
            repeatable=repeatable,
            timed_out=isinstance(error, TimeoutError),
        )


def seconds_to_quota_reset(clock: Clock) -> float:
    """Seconds until midnight Pacific, when Google's daily quotas start anew."""
    now = clock()
    return (business_day_bounds(pacific_quota_day(now), PACIFIC)[1] - now).total_seconds()


class _Transport:
    """What the SDK calls to send a request: an httplib2.Http for each thread, since it is not thread-safe itself."""

    def __init__(self, endpoint: VendorEndpoint, headers: Mapping[str, str]) -> None:
        self._endpoint = endpoint
        self._headers = {"user-agent": USER_AGENT, **headers}
        self._of_thread = threading.local()

    @property
    def _http(self) -> Any:
        import httplib2

        known = getattr(self._of_thread, "http", None)
        if known is None:
            proxy = None if is_loopback(self._endpoint.base_url) else httplib2.proxy_info_from_environment
            known = self._of_thread.http = httplib2.Http(timeout=self._endpoint.timeout_s, proxy_info=proxy)
            known.redirect_codes = known.redirect_codes - {308}
        return known

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> tuple[Any, bytes]:
        if method != "GET":
            # A kept connection may have gone stale unseen; then nobody could tell whether this request arrived.
            self._http.close()
        scheme = uri.split(":", 1)[0]
        result: tuple[Any, bytes] = self._http.request(
            uri,
            method,
            body=body,
            headers={**(headers or {}), **self._headers},
            connection_type=_connection_types().get(scheme),
        )
        return result

    def close(self) -> None:
        self._http.close()


@lru_cache(maxsize=1)
def _connection_types() -> Mapping[str, type]:
    """httplib2's connections, except that a dropped answer is an error at once and not a reason to send again."""
    import http.client

    import httplib2

    class NoResend:
        def getresponse(self) -> http.client.HTTPResponse:
            try:
                answer: http.client.HTTPResponse = super().getresponse()  # type: ignore[misc]
            except (http.client.BadStatusLine, http.client.ResponseNotReady) as error:
                raise ConnectionAbortedError("the connection was closed without an answer") from error
            return answer

    class Plain(NoResend, httplib2.HTTPConnectionWithTimeout):
        pass

    class Tls(NoResend, httplib2.HTTPSConnectionWithTimeout):
        pass

    return {"http": Plain, "https": Tls}


@lru_cache(maxsize=2)
def _packaged_document(name: str) -> dict[str, Any]:
    """Discovery document that ships with the SDK: building from it needs no network."""
    from importlib.resources import files

    packaged = files("googleapiclient").joinpath("discovery_cache", "documents", f"{name}.json")
    document: dict[str, Any] = json.loads(packaged.read_text("utf-8"))
    return document


def _network_failures() -> tuple[type[Exception], ...]:
    import http.client

    import httplib2

    return (OSError, http.client.HTTPException, httplib2.HttpLib2Error)


def _read_error(content: bytes) -> tuple[list[str], str, bool]:
    """(reasons from most to least specific, message, whether a daily limit is meant)."""
    try:
        error = json.loads(content)["error"]
        details = [d for d in error.get("details", []) if isinstance(d, dict)]
        named = [str(d["reason"]) for d in details if "reason" in d]
        listed = [str(e["reason"]) for e in error.get("errors", []) if "reason" in e]
        limits = [str(d.get("metadata", {}).get("quota_limit", "")) for d in details]
        return [*named, *listed], str(error.get("message", "")), any("PerDay" in limit for limit in limits)
    except (ValueError, KeyError, TypeError, AttributeError):
        return [], content[:200].decode("utf-8", "replace"), False


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
