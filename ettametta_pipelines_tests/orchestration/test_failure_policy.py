"""One taxonomy decides every retry: the op's own, the run-retry daemon's, and automation's."""

from collections.abc import Callable

import dagster as dg
import pytest

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import (
    FailureKind,
    NeedsPersonError,
    PermanentError,
    PipelineError,
    TransientError,
    kind_of_status,
)
from ettametta_pipelines.orchestration.failure_policy import (
    FAILURE_CODE_TAG,
    FAILURE_KIND_TAG,
    NO_RUN_RETRY_TAGS,
    failure_policy,
)


def run_asset(
    failing: Callable[[int], PipelineError | None], op_retries: int = 3
) -> tuple[int, dg.DagsterRun, dg.ExecuteInProcessResult]:
    """Materialize an asset that fails as told per attempt; returns attempts, the run as stored, and the result."""
    attempts = 0

    @dg.asset
    def fragile(context: dg.AssetExecutionContext) -> None:
        nonlocal attempts
        attempts += 1
        with failure_policy(context, op_retries=op_retries):
            error = failing(context.retry_number)
            if error is not None:
                raise error

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([fragile], instance=instance, raise_on_error=False)
        run = instance.get_run_by_id(result.run_id)
        assert run is not None
        return attempts, run, result


def test_a_transient_failure_is_tried_again_after_the_stated_wait() -> None:
    def fails_once(attempt: int) -> PipelineError | None:
        return TransientError("busy", code="busy", retry_after_s=0.01) if attempt == 0 else None

    attempts, _, result = run_asset(fails_once)
    assert (attempts, result.success) == (2, True)


def test_a_transient_failure_gives_up_after_its_retries_and_keeps_run_retries_open() -> None:
    attempts, run, result = run_asset(
        lambda attempt: TransientError("busy", code="busy", retry_after_s=0.01), op_retries=2
    )
    assert (attempts, result.success) == (3, False)
    assert run.tags[FAILURE_CODE_TAG] == "busy"
    assert run.tags[FAILURE_KIND_TAG] == "transient"
    assert not NO_RUN_RETRY_TAGS.items() <= run.tags.items()


@pytest.mark.parametrize("error", [PermanentError, NeedsPersonError])
def test_other_failures_run_once_and_stamp_the_run_against_every_daemon(error: type[PipelineError]) -> None:
    attempts, run, result = run_asset(lambda attempt: error("no", code="bad_title", remedy="Shorten it."))
    assert (attempts, result.success) == (1, False)
    assert NO_RUN_RETRY_TAGS.items() <= run.tags.items()
    (event,) = [e for e in result.all_events if e.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    assert failure.metadata["code"].value == "bad_title"
    assert failure.metadata["remedy"].value == "Shorten it."
    assert "Remedy: Shorten it." in str(failure.description)


def test_steps_with_side_effects_are_not_repeated_even_on_transient_failures() -> None:
    attempts, _, _ = run_asset(lambda attempt: TransientError("lost", code="lost"), op_retries=0)
    assert attempts == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailureKind.PERMANENT),
        (401, FailureKind.NEEDS_PERSON),
        (403, FailureKind.PERMANENT),
        (404, FailureKind.PERMANENT),
        (405, FailureKind.PERMANENT),
        (408, FailureKind.TRANSIENT),
        (429, FailureKind.TRANSIENT),
        (500, FailureKind.TRANSIENT),
        (503, FailureKind.TRANSIENT),
        (599, FailureKind.TRANSIENT),
    ],
)
def test_http_statuses_have_a_default_kind(status: int, kind: FailureKind) -> None:
    assert kind_of_status(status) is kind


def test_a_partition_that_was_not_made_says_why_and_when_it_may_be_tried_again() -> None:
    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["cats"]))
    def searched(context: dg.AssetExecutionContext) -> None:
        with failure_policy(context):
            raise TransientError(
                "No search is left.", code="quota_exhausted", retry_after_s=3600, remedy="Wait."
            )

    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([searched], partition_key="cats", instance=instance, raise_on_error=False)
        (seen,) = instance.fetch_observations(dg.AssetKey("searched"), limit=5).records
    observation = seen.asset_observation
    assert observation is not None
    assert observation.partition == "cats"
    assert {name: observation.metadata[name].value for name in ("not_made", "code", "remedy")} == {
        "not_made": "No search is left.",
        "code": "quota_exhausted",
        "remedy": "Wait.",
    }
    assert observation.metadata["not_before"].value > utc_now().timestamp()
