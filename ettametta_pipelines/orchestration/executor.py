"""The executor of every run: all steps in one process, asleep while a pool is full.

Dagster's own in-process executor asks without a pause whether its slot is free: the pause is the smallest of nought and
the time left (`InstanceConcurrencyContext.interval_to_next_pending_claim_check`, Dagster 1.13). A run that waits then
takes a whole processor from those that work.
"""

import os
import time
from collections.abc import Iterator

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._core.execution.api import ExecuteRunWithPlanIterable
from dagster._core.execution.context.system import PlanExecutionContext, PlanOrchestrationContext
from dagster._core.execution.context_creation_job import PlanExecutionContextManager
from dagster._core.execution.plan.execute_plan import inner_plan_execution_iterator
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.in_process import InProcessExecutor


class PatientClaims(InstanceConcurrencyContext):
    """Claims of pool slots that are asked for again when they may be, 1 to 15 seconds after a refusal."""

    def interval_to_next_pending_claim_check(self) -> float:
        """Seconds until a refused claim may be repeated; 0.0 where one may be now."""
        due = min(self._pending_timeouts.values(), default=0.0)
        return max(0.0, due - time.time())


def _steps(job_context: PlanExecutionContext, execution_plan: ExecutionPlan) -> Iterator[dg.DagsterEvent]:
    with PatientClaims(job_context.instance, job_context.dagster_run) as claims:
        yield from inner_plan_execution_iterator(job_context, execution_plan, claims)


class OneProcess(InProcessExecutor):
    """Dagster's in-process executor with `PatientClaims`."""

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        told = EngineEventData.in_process(os.getpid(), execution_plan.step_keys_to_execute)
        yield dg.DagsterEvent.engine_event(
            plan_context, f"Executing steps in process (pid: {os.getpid()})", event_specific_data=told
        )
        yield from ExecuteRunWithPlanIterable(
            execution_plan=plan_context.execution_plan,
            iterator=_steps,
            execution_context_manager=PlanExecutionContextManager(
                job=plan_context.job,
                retry_mode=plan_context.retry_mode,
                execution_plan=plan_context.execution_plan,
                run_config=plan_context.run_config,
                dagster_run=plan_context.dagster_run,
                instance=plan_context.instance,
                raise_on_error=plan_context.raise_on_error,
                output_capture=plan_context.output_capture,
                step_dependency_config=self.step_dependency_config,
            ),
        )
        yield dg.DagsterEvent.engine_event(
            plan_context, f"Finished steps in process (pid: {os.getpid()})", event_specific_data=told
        )


@dg.executor(name="in_process")
def in_one_process(init_context: dg.InitExecutorContext) -> OneProcess:
    """All steps of a run in its process, one after the other."""
    return OneProcess(RetryMode.ENABLED)
