"""The synthesis assets as an operator runs them: against the sandbox, on a store and database of their own."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ettametta_pipelines.automation.jobs import PROMPT_JOB, SYNTHESIS_JOB
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.media.sidecar import parse_sidecar
from ettametta_pipelines.scoring.contracts import CREATIVE_BRIEFS
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state import budget as budgets
from ettametta_pipelines.state import clip_orders as orders
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.storage.objects import ObjectStore, open_store
from ettametta_pipelines.storage.parquet import read_table, write_table
from ettametta_pipelines.synthesis.contracts import SYNTHESIS_PLANS, SYNTHESIZED_CLIPS
from ettametta_pipelines.synthesis.making import Ask, Workshop
from ettametta_pipelines.synthesis.planning import budget_of
from ettametta_pipelines.synthesis.prices import ENGINES_FILE
from ettametta_pipelines.synthesis.requests import ClipRequest
from ettametta_pipelines_tests.conftest import SandboxUnderTest

DAY, NICHE = "2026-11-20", "home-cooking"
PARTITION = dg.MultiPartitionKey({"date": DAY, "niche": NICHE})
CHEAP = {"seconds": 3.0, "format": "9x16"}


def brief(number: int, prompt: str = "Steam over a pan at dawn") -> dict[str, Any]:
    return {
        "day": pd.Timestamp(DAY).date(), "niche": NICHE, "brief_id": f"{number:016x}", "platform": "youtube",
        "video_id": f"v{number}", "score": 1 - number / 10, "prompt": prompt, "hook_text": "Wait for it",
        "title_candidates": [f"Dawn {number}"], "broll_keywords": ["steam", "pan"], "hashtags": ["#a"],
        "recipe": "cinematic", "provider": "gemini", "model": "m", "requested_model": "m", "prompt_version": "1",
        "cost_microusd": 0, "written_at": utc_now(),
    }  # fmt: skip


class Room:
    """One home: its definitions, store and runs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.instance = dg.DagsterInstance.ephemeral()
        self.definitions = build_definitions(settings)
        self.store: ObjectStore = open_store(settings)

    def write_briefs(self, *rows: dict[str, Any]) -> None:
        write_table(self.store, CREATIVE_BRIEFS, CREATIVE_BRIEFS.frame(list(rows)), PARTITION)

    def run(self, job: str = SYNTHESIS_JOB, **config: Any) -> dg.ExecuteInProcessResult:
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=PARTITION,
            run_config={
                "ops": {"synthesis_plans": {"config": {"account": "acme", **CHEAP, **config}}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
        )

    def clips(self) -> list[dict[str, Any]]:
        frame = read_table(self.store, SYNTHESIZED_CLIPS, PARTITION)
        return SYNTHESIZED_CLIPS.to_arrow(frame).to_pylist()

    def plans(self) -> list[dict[str, Any]]:
        return SYNTHESIS_PLANS.to_arrow(read_table(self.store, SYNTHESIS_PLANS, PARTITION)).to_pylist()

    def uploads(self) -> list[str]:
        return [info.key for info in self.store.list("uploads/") if info.key.endswith(".mp4")]


@pytest.fixture
def room(settings_env: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    # Small pictures, which take a tenth of the time to move.
    small = "{360x640: 0}"
    engines = tmp_path / "engines.yaml"
    known = ENGINES_FILE.read_text()
    engines.write_text(re.sub(r"\{1080x1920: 0,.*\}", small, known))
    monkeypatch.setenv("ETTAMETTA_ENGINES", str(engines))
    get_settings.cache_clear()
    made = Room(get_settings())
    made.write_briefs(brief(1), brief(2))
    yield made
    made.instance.dispose()


def test_a_brief_becomes_a_clip_that_is_handed_in_as_generated_with_its_credit(room: Room) -> None:
    result = room.run(top=1)
    (clip,) = room.clips()
    assert (clip["status"], clip["engine"], clip["mode"], clip["cost_microusd"]) == (
        "made",
        "cinematic",
        "local",
        0,
    )
    assert (clip["frames"], clip["synthetic"], clip["rights"], clip["brief_id"]) == (
        90,
        True,
        "generated",
        f"{1:016x}",
    )
    assert room.uploads() == [clip["upload_key"]]
    sidecar = parse_sidecar(room.store.get(clip["upload_key"] + ".json"))
    assert (sidecar.declared_rights, sidecar.brief_id, sidecar.title) == ("generated", f"{1:016x}", "Dawn 1")
    assert sidecar.attribution is not None
    assert sidecar.attribution.endswith("on Pexels")
    metadata = result.asset_materializations_for_node("synthesized_clips.hand_in_clips")[0].metadata
    assert "data:image/jpeg" in str(metadata["preview"].value)
    assert ".preview.webp)" in str(metadata["in_motion"].value)


def test_a_second_run_makes_nothing_and_hands_nothing_in(room: Room) -> None:
    room.run(top=2)
    first, uploads = room.clips(), room.uploads()
    result = room.run(top=2)
    told = result.asset_materializations_for_node("synthesized_clips.hand_in_clips")[0].metadata
    assert told["handed_in"].value == 0
    again = room.clips()
    assert [row["sha256"] for row in again] == [row["sha256"] for row in first]
    assert room.uploads() == uploads
    assert len({row["sha256"] for row in first}) == 2


def test_the_plan_says_what_every_engine_would_cost_and_why_it_is_not_taken(room: Room) -> None:
    room.run(top=1, expected_usd={NICHE: 0.8})
    (row,) = room.plans()
    assert (row["engine"], row["quote_microusd"], row["instead_of"]) == ("siliconflow", 290_000, "veo")
    assert "50% of the 0.80 USD" in row["why"]
    (clip,) = room.clips()
    assert (clip["status"], clip["cost_microusd"], clip["drift_microusd"]) == ("made", 290_000, 0)
    assert clip["operation_id"]


def test_a_prompt_makes_one_clip_and_leaves_the_briefs_clips_as_they_are(room: Room) -> None:
    room.run(top=1)
    room.run(PROMPT_JOB, prompt="A lighthouse in the fog", engine="veo", fallback=False)
    by_origin = {row["origin"]: row for row in room.clips()}
    assert (by_origin["prompt"]["engine"], by_origin["prompt"]["status"]) == ("veo", "made")
    assert by_origin["prompt"]["has_audio"]
    assert by_origin["brief"]["status"] == "made"
    assert len(room.uploads()) == 2


def test_what_one_vendor_refuses_is_not_taken_to_the_next_and_the_rest_is_kept(room: Room) -> None:
    room.write_briefs(brief(1), brief(2, "A wave sandbox:filtered"))
    room.run(top=2, engine="siliconflow")
    found = {row["brief_id"]: (row["status"], row["reason_code"]) for row in room.clips()}
    assert found == {f"{1:016x}": ("made", None), f"{2:016x}": ("failed", "content_refused")}


def test_a_clip_that_fails_at_one_engine_is_made_by_the_next_and_says_so(
    room: Room, sandbox: SandboxUnderTest
) -> None:
    room.write_briefs(brief(1, "A wave sandbox:fails-late"))
    room.run(top=1, engine="siliconflow")
    (clip,) = room.clips()
    assert (clip["status"], clip["engine"], clip["instead_of"]) == ("made", "cinematic", "siliconflow")
    assert "siliconflow failed (clip_failed)" in clip["why"]


def test_a_parked_clip_is_fetched_once_a_person_names_its_order(
    room: Room, sandbox: SandboxUnderTest
) -> None:
    sandbox.fault("siliconflow", method="POST", path_regex="submit", action="drop_after")
    room.run(top=1, engine="siliconflow")
    (clip,) = room.clips()
    assert (clip["status"], clip["reason_code"]) == ("parked", "answer_lost")
    room.run(top=1, engine="siliconflow")
    assert room.clips()[0]["status"] == "parked"
    assert sandbox.count("siliconflow", "POST", "submit") == 1

    operation = next(key.split("/")[1] for key, _ in _orders(sandbox))
    room.run(top=1, engine="siliconflow", found_orders={clip["request_key"]: operation})
    (clip,) = room.clips()
    assert (clip["status"], clip["operation_id"]) == ("made", operation)
    assert sandbox.count("siliconflow", "POST", "submit") == 1


def _orders(sandbox: SandboxUnderTest) -> list[tuple[str, dict[str, Any]]]:
    from ettametta_pipelines.sandbox.core import SandboxStore

    store = SandboxStore(sandbox.home / "sandbox")
    try:
        return store.items("clip_order", "siliconflow/")
    finally:
        store.close()


def test_planning_otherwise_does_not_forget_an_order_that_runs(room: Room, sandbox: SandboxUnderTest) -> None:
    sandbox.fault("siliconflow", method="POST", path_regex="submit", status=503)
    room.run(top=1, engine="siliconflow")
    assert room.clips()[0]["status"] == "pending"
    room.run(top=1, engine="cinematic")
    (clip,) = room.clips()
    assert (clip["status"], clip["engine"]) == ("made", "siliconflow")


def test_a_refused_key_is_not_asked_again_by_itself_and_leaves_no_money_aside(
    room: Room, sandbox: SandboxUnderTest
) -> None:
    sandbox.fault("siliconflow", method="POST", path_regex="submit", status=401, body="Invalid token")
    room.run(top=1, engine="siliconflow", fallback=False)
    assert room.clips()[0]["reason_code"] == "api_key_rejected"
    room.run(top=1, engine="siliconflow", fallback=False)
    assert sandbox.count("siliconflow", "POST", "submit") == 1
    room.run(top=1, engine="siliconflow", fallback=False, ask_again=True)
    assert room.clips()[0]["status"] == "made"


@pytest.mark.parametrize(
    "body", ["<html>", "[]", {}, {"status": "Odd"}, {"status": "Succeed", "results": None}]
)
def test_an_odd_answer_to_a_look_loses_no_clip(room: Room, sandbox: SandboxUnderTest, body: Any) -> None:
    sandbox.fault("siliconflow", path_regex="video/status", status=200, body=body)
    room.run(top=1, engine="siliconflow")
    assert room.clips()[0]["status"] == "pending"
    room.run(top=1, engine="siliconflow")
    (clip,) = room.clips()
    assert (clip["engine"], clip["status"]) == ("siliconflow", "made")
    assert sandbox.count("siliconflow", "POST", "submit") == 1


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_a_look_that_is_refused_pays_no_other_engine_and_the_clip_is_fetched_later(
    room: Room, sandbox: SandboxUnderTest, status: int
) -> None:
    sandbox.fault("siliconflow", path_regex="video/status", status=status, body="no", times=None)
    room.run(top=1, engine="siliconflow")
    (clip,) = room.clips()
    assert (clip["engine"], clip["status"]) == ("siliconflow", "pending" if status == 500 else "parked")
    sandbox.clear_faults()
    room.run(top=1, engine="siliconflow")
    (clip,) = room.clips()
    assert (clip["engine"], clip["status"]) == ("siliconflow", "made")
    assert sandbox.count("siliconflow", "POST", "submit") == 1


def test_a_model_that_leaves_the_price_table_while_its_order_runs_pays_no_other_engine(
    room: Room, sandbox: SandboxUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.fault("siliconflow", path_regex="video/status", status=401, body="no")
    room.run(top=1, engine="siliconflow")
    before = Path(room.settings.engines_file or "").read_text()
    (tmp_path / "shorter.yaml").write_text(before.replace("Wan-AI/Wan2.2-T2V-A14B", "Wan-AI/Wan3"))
    monkeypatch.setenv("ETTAMETTA_ENGINES", str(tmp_path / "shorter.yaml"))
    get_settings.cache_clear()
    room.run(top=1, engine="siliconflow")
    (clip,) = room.clips()
    assert (clip["engine"], clip["status"], clip["reason_code"]) == ("siliconflow", "parked", "price_unknown")


def test_a_cap_that_is_reached_between_quote_and_order_leads_to_the_next_engine(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETTAMETTA_ACCOUNT_MODEL_BUDGET_USD", "0.6")
    get_settings.cache_clear()
    plain = budgets.claim_within

    def another_run_was_quicker(session: Any, at: Any, budget: Any, purchase: Any, clock: Any) -> Any:
        spent = replace(budget, account_limit_microusd=budget.account_limit_microusd - 400_000)
        return plain(session, at, spent, purchase, clock)

    monkeypatch.setattr(budgets, "claim_within", another_run_was_quicker)
    room.run(top=1, engine="siliconflow")
    (clip,) = room.clips()
    assert (clip["status"], clip["engine"], clip["instead_of"]) == ("made", "cinematic", "siliconflow")


def test_what_the_vendor_calls_an_order_is_in_the_log_when_the_database_is_away(
    room: Room, sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(orders, "note_operation", away)
    with pytest.raises(ConnectionError):
        room.run(top=1, engine="siliconflow")
    (operation,) = [key.split("/")[1] for key, _ in _orders(sandbox)]
    (run,) = room.instance.get_runs()
    assert any(operation in entry.message for entry in room.instance.all_logs(run.run_id))


def test_the_daily_cap_keeps_what_is_made_and_says_of_the_rest_that_the_day_is_spent(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETTAMETTA_ACCOUNT_MODEL_BUDGET_USD", "0.4")
    get_settings.cache_clear()
    room.run(top=2, engine="siliconflow", fallback=False)
    assert [row["status"] for row in room.clips()] == ["made"]
    assert [row["reason_code"] for row in room.plans()] == [None, "over_daily_cap"]


def test_a_cost_above_its_quote_is_shown_as_drift(room: Room) -> None:
    result = room.run(PROMPT_JOB, prompt="A bay sandbox:dear", engine="veo", fallback=False)
    (clip,) = room.clips()
    assert clip["drift_microusd"] == pytest.approx(clip["quote_microusd"] * 0.25, rel=0.01)
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert checks["costs_are_as_quoted"] is False


def test_a_sandboxs_clip_has_no_right_where_posts_are_live(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TIKTOK_CLIENT_KEY", "TIKTOK_CLIENT_SECRET"):
        monkeypatch.setenv(name, "a-real-key")
    get_settings.cache_clear()
    room.run(top=1)
    (clip,) = room.clips()
    assert clip["rights"] == "undeclared"
    assert parse_sidecar(room.store.get(clip["upload_key"] + ".json")).rights is None


def followed_up(room: Room, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    """What the schedule asks for at its next tick."""
    schedule = room.definitions.resolve_schedule_def("clip_followup")
    # A context that is left unclosed makes its instance the current one again whenever it is collected.
    with dg.build_schedule_context(
        instance=instance,
        repository_def=room.definitions.get_repository_def(),
        scheduled_execution_time=utc_now(),
        resources={name: room.definitions.resources[name] for name in ("state", "store")},  # type: ignore[index]
    ) as context:
        return list(schedule.evaluate_tick(context).run_requests or [])


def test_the_schedule_comes_back_for_orders_nobody_fetched(
    room: Room, sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ettametta_pipelines.automation import clip_followup

    monkeypatch.setattr(clip_followup, "QUIET_FOR", timedelta(seconds=-1))
    sandbox.fault("siliconflow", method="POST", path_regex="submit", status=503)
    room.run(top=1, engine="siliconflow")
    assert room.clips()[0]["status"] == "pending"

    (request,) = followed_up(room, room.instance)
    assert request.partition_key == str(PARTITION)
    room.definitions.resolve_job_def(SYNTHESIS_JOB).execute_in_process(
        instance=room.instance, partition_key=PARTITION, asset_selection=list(request.asset_selection)
    )
    assert room.clips()[0]["status"] == "made"


def test_the_schedule_comes_back_for_clips_that_wait_for_a_gpu_until_they_are_made(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ettametta_pipelines.failures import TransientError
    from ettametta_pipelines.synthesis import making, ordering
    from ettametta_pipelines.synthesis.waiting import waiting

    class Away:
        def run(self, *_: object) -> list[object]:
            raise TransientError("It is away.", code="render_node_slow")

    ask = Ask("p", "ltx", "m", "local", ClipRequest("a kite", 1, 64, 64, 24, 1), 0, "acme", str(PARTITION))
    store, settings = room.store, room.settings
    workshop = Workshop(
        open_state(settings),
        store,
        tmp_path,
        lambda account, mode: budget_of(settings, open_state(settings), account, mode),
        utc_now,
    )
    monkeypatch.setattr(ordering, "open_clip_runner", lambda *_: Away())
    ordering._made_on_gpu(workshop, settings, [ask])
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        (request,) = followed_up(room, instance)
    assert request.partition_key == str(PARTITION)
    monkeypatch.setattr(making, "make_on_gpu", lambda *_: {})
    ordering._made_on_gpu(workshop, settings, [ask])
    assert waiting(store, utc_now()) == []
