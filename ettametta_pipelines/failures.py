"""The one failure taxonomy. Every layer that retries, parks or alerts decides by it.

Three kinds: *permanent* (the same input fails the same way again), *transient* (worth another try, maybe after
a stated wait) and *needs a person* (nobody but an operator can move it on). Each failure carries a stable reason
code for tables and alerts, a sentence that names the thing, and a remedy an operator can act on.

No Dagster here: `orchestration/failure_policy.py` binds these to op retries, run retries and automation.
"""

from enum import StrEnum


class FailureKind(StrEnum):
    PERMANENT = "permanent"
    TRANSIENT = "transient"
    NEEDS_PERSON = "needs_person"


class PipelineError(Exception):
    """Base of all expected failures.

    Args:
        message: one sentence naming the thing that failed. Never holds a secret.
        code: stable snake_case reason code, e.g. `truncated_media`.
        remedy: what an operator can do about it, as an imperative sentence.
        retry_after_s: for transient failures, seconds the other side asked us to wait.
    """

    kind: FailureKind = FailureKind.PERMANENT

    def __init__(
        self, message: str, *, code: str, remedy: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.remedy = remedy
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]" + (f" Remedy: {self.remedy}" if self.remedy else "")


class PermanentError(PipelineError):
    kind = FailureKind.PERMANENT


class TransientError(PipelineError):
    kind = FailureKind.TRANSIENT


class NeedsPersonError(PipelineError):
    kind = FailureKind.NEEDS_PERSON


class OutcomeUnknownError(TransientError):
    """The request may have taken effect: the answer was lost. Probe before doing it again; never resend blindly."""


TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


def kind_of_status(status: int) -> FailureKind:
    """Default class of an HTTP status; vendor clients override it by reason (a 403 may mean quota)."""
    if status in TRANSIENT_STATUSES or status >= 500:
        return FailureKind.TRANSIENT
    if status == 401:
        return FailureKind.NEEDS_PERSON
    return FailureKind.PERMANENT


ERROR_BY_KIND: dict[FailureKind, type[PipelineError]] = {
    FailureKind.PERMANENT: PermanentError,
    FailureKind.TRANSIENT: TransientError,
    FailureKind.NEEDS_PERSON: NeedsPersonError,
}
