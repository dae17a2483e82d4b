"""Binds the failure taxonomy to every layer of Dagster that could retry.

`allow_retries=False` alone stops only the op's own retry; the run-retry daemon and automation look at run tags
(a permanent HTTP 405 was once retried thousands of times that way). So a permanent failure also stamps the run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import dagster as dg

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import FailureKind, PipelineError
from ettametta_pipelines.redaction import without_secrets

MAX_OP_RETRIES = 3
DEFAULT_WAIT_S = 5.0
MAX_WAIT_S = 600.0

NO_RUN_RETRY_TAGS = {"dagster/max_retries": "0", "dagster/retry_on_asset_or_op_failure": "false"}
FAILURE_CODE_TAG = "ettametta/failure_code"
FAILURE_KIND_TAG = "ettametta/failure_kind"


@contextmanager
def failure_policy(context: dg.AssetExecutionContext, *, op_retries: int = MAX_OP_RETRIES) -> Iterator[None]:
    """Translate a PipelineError raised inside into what Dagster should do about it.

    Transient: the step is retried at most `op_retries` times, after the wait the vendor asked for or exponential
    backoff from five seconds. A wait beyond ten minutes (a spent daily quota) is not sat out in a run: the step
    fails and may run again later. Permanent or needs-a-person: the step fails once, the run is tagged so that no
    daemon tries again, and code and remedy stand in the failure's metadata. What failed for good in this run is also
    observed on the partition, whose page otherwise shows no more than that it is empty.
    Steps with side effects pass `op_retries=0` and resume through their own ledger instead.
    """
    try:
        yield
    except PipelineError as error:
        cause = without_secrets(error) or error
        attempt = context.retry_number
        wait = error.retry_after_s or DEFAULT_WAIT_S * 2**attempt
        if error.kind is FailureKind.TRANSIENT and attempt < op_retries and wait <= MAX_WAIT_S:
            context.log.warning(f"{error} Attempt {attempt + 1} of {op_retries + 1}; next in {wait:.0f} s.")
            raise dg.RetryRequested(max_retries=op_retries, seconds_to_wait=wait) from cause
        _tell_partition(context, error)
        raise definite_failure(error, context.instance, context.run_id) from cause
    except Exception as error:
        if safe := without_secrets(error):
            raise safe from None
        raise


def definite_failure(error: PipelineError, instance: dg.DagsterInstance, run_id: str) -> dg.Failure:
    """The step's failure with code and remedy; the run is stamped so that no daemon repeats what cannot succeed."""
    stamp_run(instance, run_id, error.code, error.kind)
    remedy = error.remedy or "See the run's log."
    return dg.Failure(
        description=str(error),
        metadata={"code": error.code, "kind": error.kind.value, "remedy": remedy},
        allow_retries=False,
    )


def _tell_partition(context: dg.AssetExecutionContext, error: PipelineError) -> None:
    # A range of partitions failed as one; which of them it was is in the message.
    if not context.has_partition_key:
        return
    said: dict[str, dg.MetadataValue | str] = {
        "not_made": error.message,
        "code": error.code,
        "remedy": error.remedy or "See the run's log.",
    }
    if error.retry_after_s is not None:
        said["not_before"] = dg.MetadataValue.timestamp(utc_now() + timedelta(seconds=error.retry_after_s))
    for key in context.selected_asset_keys:
        context.log_event(dg.AssetObservation(key, partition=context.partition_key, metadata=said))


def stamp_run(instance: dg.DagsterInstance, run_id: str, code: str, kind: FailureKind) -> None:
    """Tag the run with what failed, for filters and alerts, and against repetition where that cannot help."""
    tags = {FAILURE_CODE_TAG: code, FAILURE_KIND_TAG: kind.value}
    if kind is not FailureKind.TRANSIENT:
        tags |= NO_RUN_RETRY_TAGS
    instance.add_run_tags(run_id, tags)
