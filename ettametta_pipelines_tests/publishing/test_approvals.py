"""What a decision covers, and what waits for one: the gate before every post, and the backlog of the queue."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from ettametta_pipelines.clock import pacific_quota_day, utc_now
from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.publishing.admission import assigned_thumbnail
from ettametta_pipelines.publishing.approvals import (
    Request,
    admit,
    decide,
    decisions_on,
    propose,
)
from ettametta_pipelines.publishing.backlog import MAX_ATTEMPTS, gather, recent_claims, take_due
from ettametta_pipelines.publishing.orders import Wishes
from ettametta_pipelines.publishing.policy import Arm, ChannelPolicy, Channels, Experiment
from ettametta_pipelines.publishing.queue import Planned, plan
from ettametta_pipelines.publishing.variants import PostName, assign, record_variants
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.models import (
    ApiQuota,
    OAuthConnection,
    Publication,
    PublicationSlot,
    PublicationVariant,
)
from ettametta_pipelines.state.quota import reserve
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.databases import database_url  # noqa: F401 (both kinds of database)

SOURCE = "acme--0123456789abcdef"
MANUAL, AUTOMATIC = ChannelPolicy(), ChannelPolicy(approval="automatic", privacy="public")
NOW = utc_now().replace(microsecond=0)


def source(**fields: Any) -> dict[str, Any]:
    return {
        "source_id": SOURCE, "account": "acme", "niche": "cooking", "upload_key": "uploads/a.mp4",
        "title": "Knife skills", "rights": "owned", "attribution": None, "accepted_at": NOW - timedelta(days=1),
    } | fields  # fmt: skip


def rendition(**fields: Any) -> dict[str, Any]:
    return {
        "source_id": SOURCE, "object_key": "media/x.mp4", "sha256": "a" * 64, "size_bytes": 9, "duration_s": 20.0,
    } | fields  # fmt: skip


def request(policy: ChannelPolicy = MANUAL, platform: str = "youtube", **fields: Any) -> Request:
    rows = {"source": source(), "rendition": rendition()} | fields
    return Request(platform, policy=policy, run_id="run", **rows)


def approve(
    db: StateDatabase, asked: Request, wishes: Wishes = Wishes(), decision: str = "approve", **more: Any
) -> None:
    decide(db, propose(asked, wishes), decision, by="anna", run_id="run 1", **more)


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(NeedsPersonError) as caught:
        act()
    return caught.value.code


# The gate


def test_nothing_is_posted_on_a_manual_channel_before_a_person_approves(database: StateDatabase) -> None:
    assert code_of(lambda: admit(database, request(), Wishes())) == "approval_missing"
    approve(database, request())
    assert admit(database, request(), Wishes()).order.post.title == "Knife skills"


def test_an_empty_list_of_tags_is_no_word_either(database: StateDatabase) -> None:
    approve(database, request(), Wishes(title="Sharp"))
    assert admit(database, request(), Wishes(tags=[])).order.post.title == "Sharp"


def test_a_run_without_words_posts_the_words_that_were_approved(database: StateDatabase) -> None:
    approve(
        database, request(), Wishes(title="Sharp", tags=("cook",), privacy="unlisted", paid_promotion=True)
    )
    post = admit(database, request(), Wishes()).order.post
    assert (post.title, post.tags, post.privacy, post.paid) == ("Sharp", ("cook",), "unlisted", True)


@pytest.mark.parametrize(
    ("now", "named"),
    [
        ({"rendition": rendition(sha256="b" * 64)}, "The rendition was made again after anna approved it"),
        ({"source": source(rights="cc_by", attribution="Anna, CC BY 4.0")}, "not as approved: description"),
        ({"source": source(rights="generated")}, "not as approved: synthetic"),
    ],
)
def test_what_is_not_exactly_what_was_approved_needs_another_approval(
    database: StateDatabase, now: dict[str, Any], named: str
) -> None:
    approve(database, request())
    with pytest.raises(NeedsPersonError, match=named) as caught:
        admit(database, request(**now), Wishes())
    assert caught.value.code == "approval_outdated"
    approve(database, request(**now))
    admit(database, request(**now), Wishes())


def test_words_given_with_the_run_are_refused_unless_they_are_the_approved_ones(
    database: StateDatabase,
) -> None:
    approve(database, request(), Wishes(title="Sharp"))
    assert code_of(lambda: admit(database, request(), Wishes(title="Blunt"))) == "approval_outdated"
    assert admit(database, request(), Wishes(title="Sharp")).order.post.title == "Sharp"


def test_the_newest_decision_stands_and_none_is_lost(database: StateDatabase) -> None:
    approve(database, request())
    approve(database, request(), decision="hold", comment="wait for the client")
    with pytest.raises(NeedsPersonError, match=r"anna put it on hold .*: wait for the client"):
        admit(database, request(), Wishes())
    approve(database, request(), decision="reject")
    assert code_of(lambda: admit(database, request(AUTOMATIC), Wishes())) == "post_not_wanted"
    assert [d.decision for d in decisions_on(database, SOURCE)] == ["reject", "hold", "approve"]


def test_an_approval_is_for_one_channel_and_one_post(database: StateDatabase) -> None:
    approve(database, request())
    assert code_of(lambda: admit(database, request(platform="tiktok"), Wishes())) == "approval_missing"
    assert code_of(lambda: admit(database, request(), Wishes(intent_no=2))) == "approval_missing"


def test_an_automatic_channel_posts_by_its_policy(database: StateDatabase) -> None:
    policy = ChannelPolicy(approval="automatic", privacy="public", hashtags=("Cook", "home"))
    post = admit(database, request(policy), Wishes(tags=("cook",))).order.post
    assert (post.privacy, post.tags) == ("public", ("cook", "home"))


def test_a_person_may_approve_with_the_run_itself_and_it_is_on_the_record_once(
    database: StateDatabase,
) -> None:
    for _ in range(2):
        admit(database, request(), Wishes(), approve=True, by="bert")
    (kept,) = decisions_on(database, SOURCE)
    assert (kept.decision, kept.decided_by, kept.run_id) == ("approve", "bert", "run")
    admit(database, request(), Wishes())


@pytest.mark.parametrize("state", ["FINALIZING", "PROCESSING", "RECONCILING", "PUBLISHED", "NEEDS_REVIEW"])
def test_finding_out_what_became_of_a_post_needs_no_approval(database: StateDatabase, state: str) -> None:
    add_post(database, state)
    approve(database, request(), decision="reject")
    assert admit(database, request(), Wishes(live_remote_id=" x ")).order.live_remote_id == "x"


@pytest.mark.parametrize("state", ["PLANNED", "SESSION_OPEN"])
def test_a_post_that_has_not_left_is_stopped_by_a_rejection(database: StateDatabase, state: str) -> None:
    add_post(database, state)
    approve(database, request(), decision="reject")
    assert code_of(lambda: admit(database, request(), Wishes())) == "post_not_wanted"


def add_post(
    db: StateDatabase, state: str, source_id: str = SOURCE, platform: str = "youtube", **fields: Any
) -> None:
    with db.session() as session:
        row = {
            "id": f"{platform}-{source_id}", "platform": platform, "account_id": "acme", "channel_id": "UC",
            "content_id": source_id, "intent_no": 1, "state": state, "fence": 0, "object_key": "k",
            "sha256": "a" * 64, "size_bytes": 9,
            "received_bytes": 0, "marker": "m", "title": "t", "privacy": "private", "attempts": 0, "check_count": 0,
            "created_at": NOW, "updated_at": NOW,
        }  # fmt: skip
        session.add(Publication(**row | fields))


# The backlog


@pytest.fixture
def connected(database: StateDatabase) -> StateDatabase:
    with database.session() as session:
        for platform in ("youtube", "tiktok"):
            session.add(
                OAuthConnection(
                    account_id="acme",
                    platform=platform,
                    channel_id="UC",
                    channel_title="",
                    scopes="",
                    access_token="",
                    expires_at=NOW,
                    generation=0,
                    status="active",
                    connected_at=NOW,
                    updated_at=NOW,
                )
            )
    return database


def channels(**policy: Any) -> Channels:
    return Channels(
        channels={("acme", platform): ChannelPolicy(**policy) for platform in ("youtube", "tiktok")}
    )


def queue(db: StateDatabase, here: Channels | None = None, now: datetime = NOW, **rows: Any) -> list[Planned]:
    here = here or channels()
    backlog = gather(
        db, rows.get("sources", [source()]), rows.get("renditions", [rendition()]), here, now,
        as_approved=rows.get("as_approved", ""),
    )  # fmt: skip
    return plan(backlog.entries, backlog.taken, here, now, backlog.quota_left, backlog.closed_until)


def whys(planned: list[Planned]) -> dict[str, str]:
    return {p.entry.platform: p.why for p in planned}


def test_what_is_finished_waits_for_approval_on_every_channel_of_its_account(
    connected: StateDatabase,
) -> None:
    assert whys(queue(connected)) == {"tiktok": "waiting for approval", "youtube": "waiting for approval"}
    assert queue(connected, sources=[source(account="nobody")]) == []
    approve(connected, request())
    assert whys(queue(connected))["youtube"] == "due now"


def test_a_held_post_says_why_and_a_rejected_or_made_one_is_gone(connected: StateDatabase) -> None:
    approve(connected, request(), decision="hold", comment="wait for the client")
    approve(connected, request(platform="tiktok"), decision="reject")
    assert whys(queue(connected)) == {"youtube": "on hold: wait for the client"}
    add_post(connected, "PUBLISHED")
    assert queue(connected) == []


def test_a_rendition_made_again_waits_for_another_approval(connected: StateDatabase) -> None:
    approve(connected, request())
    again = queue(connected, renditions=[rendition(sha256="b" * 64)])
    assert whys(again)["youtube"] == "the video was made again since its approval: approve it again"


def test_a_video_without_a_right_is_held_on_an_automatic_channel_too(connected: StateDatabase) -> None:
    planned = queue(connected, channels(approval="automatic"), sources=[source(rights="undeclared")])
    assert all(
        p.at is None and p.why.startswith("cannot be posted: Nobody has declared a right") for p in planned
    )


def test_a_channel_that_must_be_connected_again_says_so(connected: StateDatabase) -> None:
    with connected.session() as session:
        session.execute(sa.update(OAuthConnection).values(status="reauth_required"))
    assert set(whys(queue(connected)).values()) == {"the channel must be connected again"}


def test_a_decision_is_shown_with_the_date_its_approval_would_give(connected: StateDatabase) -> None:
    planned = queue(connected, as_approved=SOURCE)
    assert {p.why for p in planned} == {"due now"}


def test_a_due_time_is_claimed_once_and_asked_for_until_it_has_a_run(connected: StateDatabase) -> None:
    here = channels(approval="automatic")
    planned = queue(connected, here)
    first = take_due(connected, planned, NOW)
    assert sorted(claim.name.platform for claim in first) == ["tiktok", "youtube"]
    assert take_due(connected, planned, NOW) == []
    assert {c.run_key for c in recent_claims(connected, NOW)} == {c.run_key for c in first}
    assert set(whys(queue(connected, here)).values()) == {"being posted"}


def test_a_run_that_failed_gets_another_time_until_a_person_has_to_look(connected: StateDatabase) -> None:
    here, now = channels(approval="automatic"), NOW
    for _ in range(MAX_ATTEMPTS):
        (mine,) = [p for p in queue(connected, here, now) if p.entry.platform == "youtube"]
        assert len(take_due(connected, [mine], now)) == 1
        with connected.session() as session:
            session.execute(sa.update(PublicationSlot).values(taken_at=now))
        now += timedelta(hours=2)
    assert (
        whys(queue(connected, here, now))["youtube"]
        == "its run failed 3 times: see the last one, then approve it again"
    )


def test_uploads_already_spent_or_claimed_today_are_not_planned_again(connected: StateDatabase) -> None:
    reserve(connected, "youtube", "videos_insert", 1, lambda: NOW)
    with connected.session() as session:
        session.execute(sa.update(ApiQuota).values(used=98))
    others = [source(source_id=f"acme--{n}") for n in range(3)]
    rows = {"sources": others, "renditions": [rendition(source_id=s["source_id"]) for s in others]}
    here = channels(approval="automatic", min_gap_minutes=1)
    mine = [p for p in queue(connected, here, **rows) if p.entry.platform == "youtube"]
    assert [pacific_quota_day(p.at) == pacific_quota_day(NOW) for p in mine if p.at] == [True, False, False]
    take_due(connected, mine, NOW)
    rest = [p for p in queue(connected, here, **rows) if p.entry.platform == "youtube" and p.at]
    assert [pacific_quota_day(p.at) == pacific_quota_day(NOW) for p in rest if p.at] == [False, False]
    assert rest[0].why == "YouTube's uploads of the project are planned for today"


def test_what_google_granted_beyond_the_default_counts_on_the_days_to_come_too(
    connected: StateDatabase, settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETTAMETTA_YOUTUBE_QUOTA", "videos_insert=250")
    get_settings.cache_clear()
    backlog = gather(connected, [source()], [rendition()], channels(), NOW)
    today = pacific_quota_day(NOW)
    assert [backlog.quota_left("youtube", today + timedelta(days=n)) for n in (0, 1)] == [250, 250]


def test_tries_before_the_end_of_a_closed_time_count_for_nothing_and_those_after_it_do(
    connected: StateDatabase,
) -> None:
    here = channels(approval="automatic", min_gap_minutes=1)
    add_post(connected, "PLANNED", SOURCE, next_check_at=NOW + timedelta(hours=24))

    def mine(now: datetime) -> Planned:
        return next(p for p in queue(connected, here, now) if p.entry.platform == "youtube")

    assert (mine(NOW).at, mine(NOW).why[:34]) == (
        NOW.replace(microsecond=0) + timedelta(hours=24), "youtube takes no more posts of thi",
    )  # fmt: skip
    later = NOW + timedelta(hours=25)
    for _ in range(3):
        due = mine(later)
        assert due.is_due(later)
        assert take_due(connected, [due], later) != []
        with connected.session() as session:
            session.execute(sa.update(PublicationSlot).values(taken_at=later))
        later += timedelta(hours=2)
    assert "its run failed 3 times" in mine(later).why


def test_a_post_made_by_hand_takes_its_place_under_the_cap(connected: StateDatabase) -> None:
    # Late in the evening the next place is tomorrow's anyway.
    noon = NOW.replace(hour=12)
    add_post(connected, "PUBLISHED", "acme--other", first_mutation_at=noon)
    (mine,) = [
        p
        for p in queue(connected, channels(approval="automatic", daily_cap=1), noon)
        if p.entry.platform == "youtube"
    ]
    assert mine.why == "daily cap of 1 reached"


# Variants


def policy_with(kind: str = "title", **texts: str) -> ChannelPolicy:
    arms = {name: Arm(text=text, share=3 if name == "a" else 1) for name, text in texts.items()}
    return ChannelPolicy(approval="automatic", experiments={"words": Experiment(kind=kind, arms=arms)})  # type: ignore[arg-type]


def test_variants_follow_their_shares_and_asking_twice_gives_the_same() -> None:
    policy = policy_with(a="{title}", b="{title}?")
    names = [PostName("youtube", "acme", f"s{n}") for n in range(4000)]
    drawn = [assign(policy, name, "Knives", Wishes())[0] for name in names]
    assert drawn == [assign(policy, name, "Knives", Wishes())[0] for name in names]
    assert drawn[0].shares == {"a": 0.75, "b": 0.25}
    # Three standard deviations of 4000 throws.
    assert abs(sum(d.arm == "a" for d in drawn) / 4000 - 0.75) < 0.021


def test_the_variant_is_in_the_words_that_are_posted_and_on_the_record(database: StateDatabase) -> None:
    asked = request(policy_with(a="{title}!", b="{title}?"))
    proposal = admit(database, asked, Wishes())
    assert proposal.order.post.title in ("Knife skills!", "Knife skills?")
    for _ in range(2):
        record_variants(database, proposal.name, proposal.arms)
    with database.session(write=False) as session:
        (row,) = session.scalars(sa.select(PublicationVariant)).all()
    assert (row.text, row.shares) == (proposal.order.post.title, {"a": 0.75, "b": 0.25})


def test_an_approved_variant_stays_when_the_experiment_ends(database: StateDatabase) -> None:
    approve(database, request(policy_with(a="{title}!", b="{title}?")))
    proposal = admit(database, request(MANUAL), Wishes())
    assert proposal.order.post.title != "Knife skills"
    assert [arm.experiment for arm in proposal.arms] == ["words"]


def test_the_picture_of_a_post_is_drawn_when_it_is_set(
    database: StateDatabase, settings_env: Settings
) -> None:
    assert assigned_thumbnail(database, settings_env, "acme", SOURCE) is None
    file = settings_env.home_dir / "channels.yaml"
    arms = "{x: {text: block}, y: {text: headline}}"
    file.write_text(
        f"channels: {{acme: {{youtube: {{experiments: {{look: {{kind: thumbnail, arms: {arms}}}}}}}}}}}"
    )
    settings = settings_env.model_copy(update={"channels_file": file})
    style = assigned_thumbnail(database, settings, "acme", SOURCE)
    assert style in ("block", "headline")
    assert assigned_thumbnail(database, settings, "acme", SOURCE) == style
    with database.session(write=False) as session:
        (row,) = session.scalars(sa.select(PublicationVariant)).all()
    assert (row.kind, row.text) == ("thumbnail", style)


def test_words_of_a_person_are_in_no_experiment() -> None:
    policy, name = policy_with(a="{title}!", b="{title}?"), PostName("youtube", "acme", "s")
    assert assign(policy, name, "Knives", Wishes(title="Mine")) == []
    assert assign(policy, name, "K" * 100, Wishes()) == []
    assert assign(policy, PostName("youtube", "acme", "s", 2), "Knives", Wishes()) == []
    hooks = policy_with("hook", a="In ten seconds", b="Nobody shows you this")
    (drawn,) = assign(hooks, name, "Knives", Wishes(title="Mine"))
    assert drawn.text in ("In ten seconds", "Nobody shows you this")
    assert assign(hooks, name, "Knives", Wishes(description="Mine")) == []


def test_a_picture_is_not_drawn_with_the_words() -> None:
    policy = policy_with("thumbnail", a="block", b="headline")
    assert assign(policy, PostName("youtube", "acme", "s"), "Knives", Wishes()) == []
