"""What a backfill does to the state beside a gateway under load: draws quota, notes events, works the inbox off.

Runs until SIGTERM and then prints how many units of quota it was granted.

    python -m ettametta_pipelines_tests.load.beside
"""

import signal
import sys
from itertools import count

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.state import inbox, quota
from ettametta_pipelines.state.models import DatabaseNow, PublicationEvent, WebhookEvent
from ettametta_pipelines.state.session import open_state


def _effect(event: WebhookEvent) -> str:
    return "seen"


def main() -> None:
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    db, granted, is_spent = open_state(get_settings()), 0, False
    for number in count():
        if ended:
            break
        if not is_spent:
            try:
                quota.commit(db, quota.reserve(db, "youtube", "units", 1, utc_now))
                granted += 1
            except quota.QuotaExhausted:
                is_spent = True
        with db.session() as session:
            session.add(
                PublicationEvent(
                    publication_id=f"post{number % 300:04}", at=DatabaseNow(), from_state="PLANNED",
                    to_state="PLANNED", fence=1, actor="backfill", reason="beside", detail={"number": number},
                )
            )  # fmt: skip
        if number % 50 == 0:
            inbox.work_off(db, _effect, limit=100, seconds=2)
    sys.stdout.write(f"{granted}\n")


if __name__ == "__main__":
    main()
