"""State, quota and clients of the collectors' tests, on the sandbox."""

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from ettametta_pipelines.clock import pacific_quota_day, utc_now
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import ApiQuota
from ettametta_pipelines.state.quota import reserve
from ettametta_pipelines.state.session import StateDatabase, open_state

LeaveQuota = Callable[[str, int], None]


@pytest.fixture
def state(settings_env: Settings) -> Iterator[StateDatabase]:
    with open_state(settings_env) as db:
        yield db


@pytest.fixture
def leave_quota(state: StateDatabase) -> LeaveQuota:
    """`leave_quota("search", 1)`: so many calls of the YouTube bucket are left today."""

    def leave(bucket: str, left: int) -> None:
        today = pacific_quota_day(utc_now())
        with state.session() as session:
            limit = session.scalar(
                sa.select(ApiQuota.limit).where(ApiQuota.bucket == bucket, ApiQuota.quota_day == today)
            )
        if limit is None:
            reserve(state, "youtube", bucket, 1, utc_now)
        with state.session() as session:
            session.execute(
                sa.update(ApiQuota)
                .where(ApiQuota.bucket == bucket, ApiQuota.quota_day == today)
                .values(used=ApiQuota.limit - left, reserved=0)
            )

    return leave
