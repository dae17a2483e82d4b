"""The sensor behind "it is not live: post it again": starts the post a person has ordered on the gateway's pages.

The order is a row of the ledger; here it becomes a run with the wishes of the post it replaces. Ordering it was the
person's approval. That the video is posted once, however often a run is started, rests on the ledger.
"""

from typing import TYPE_CHECKING

import dagster as dg

from ettametta_pipelines.automation.jobs import PUBLISH_JOB
from ettametta_pipelines.automation.publish_runs import calling_back, publish_run
from ettametta_pipelines.orchestration.resources import StateResource
from ettametta_pipelines.tags import TITLE_TAG, USER_TAG

if TYPE_CHECKING:
    from ettametta_pipelines.state.models import Publication


@dg.sensor(
    name="ordered_posts",
    job_name=PUBLISH_JOB,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Starts posts that a person ordered again after declaring the one before not live, one run each, with the "
        "title, privacy and declarations of the run before."
    ),
)
def ordered_posts(
    context: dg.SensorEvaluationContext, state: StateResource
) -> dg.SensorResult | dg.SkipReason:
    from ettametta_pipelines.publishing.review import ordered_again

    orders = ordered_again(state.open())
    if not orders:
        return dg.SkipReason("No post was ordered again.")
    requests = [_run_request(order, by) for order, by in orders]
    return dg.SensorResult(run_requests=requests, dynamic_partitions_requests=calling_back(requests))


def _run_request(order: "Publication", ordered_by: str) -> dg.RunRequest:
    from ettametta_pipelines.publishing.followup import wishes_of

    config = wishes_of(order) | {"approve": True}
    tags = {TITLE_TAG: order.title[:80], USER_TAG: ordered_by}
    return publish_run(
        f"ordered:{order.id}", order.platform, order.account_id, order.content_id, config, tags
    )
