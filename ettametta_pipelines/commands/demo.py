"""`ettametta demo`: the whole line once, through real Dagster runs on the instance under `ETTAMETTA_HOME`.

It launches the same jobs and evaluates the same sensor an operator uses, so that everything it did can be looked at
in the UI afterwards. It decides nothing itself: what was rendered, posted or booked is read from the runs'
metadata and from the tables, and a second demo reports what those say, which is that nothing was done again.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from ettametta_pipelines.automation.jobs import (
    DISCOVERY_JOB,
    INGEST_JOB,
    METRICS_JOB,
    NICHE_OVERVIEW_JOB,
    PUBLISH_JOB,
    REVENUE_JOB,
    SYNTHESIS_JOB,
)
from ettametta_pipelines.automation.sensors import tick_upload_sensor
from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.clock import business_day_of, utc_now
from ettametta_pipelines.commands.channels import connect_platform
from ettametta_pipelines.commands.devserver import prepare_home, uses_sandbox
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.discovery.niches import Niche, load_niches
from ettametta_pipelines.failures import PermanentError, PipelineError
from ettametta_pipelines.media.inbox import SETTLE, drop_upload, source_id_of
from ettametta_pipelines.media.samples import make_samples
from ettametta_pipelines.media.sidecar import SUFFIX, SidecarInvalid, parse_sidecar, title_from_name
from ettametta_pipelines.money import Money
from ettametta_pipelines.partitions import day_niche_key
from ettametta_pipelines.sandbox.server import SandboxServer
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state import uploads
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.storage.addressing import file_sha256
from ettametta_pipelines.storage.lake import open_lake
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.tags import ACCOUNT_TAG, NICHE_TAG

DEMO_ACCOUNT = "demo-studio"
NICHES_SHOWN = 2
Say = Callable[[str], None]
StageFunction = Callable[["Demo", Say], str]
RENDITIONS = ("rendition_9x16", "rendition_16x9", "rendition_1x1")
RUN_KEY_TAG = "dagster/run_key"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class Outcome:
    """One run as the demo reports it: per asset its metadata, and in words what went wrong."""

    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass
class Stage:
    name: str
    seconds: float
    found: str


@dataclass
class DemoReport:
    stages: list[Stage] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    source_ids: list[str] = field(default_factory=list)
    new_renders: int = 0
    new_uploads: int = 0


class Demo:
    """One demo: the settings, the instance its runs are recorded in, and the report it fills."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance, console: Console) -> None:
        self.settings = settings
        self.instance = instance
        self.console = console
        self.definitions = build_definitions(settings)
        self.store = open_store(settings)
        self.state = open_state(settings)
        self.report = DemoReport()
        self.today: date = business_day_of(utc_now(), settings.timezone)
        niches = load_niches(settings.niches_file)
        ranked = sorted(niches.values(), key=lambda niche: (-niche.weight, niche.slug))
        self.niches: list[Niche] = ranked[:NICHES_SHOWN]
        self.all_niches = niches
        self.closed_day = self.today - timedelta(days=1)
        self.requests: list[dg.RunRequest] = []
        self.dropped_at: float | None = None

    def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Rows of a query over the lake as it is now."""
        with open_lake(self.settings, ALL_TABLES) as lake:
            return lake.rows(statement, parameters)

    def is_materialized(self, asset: str, partition: str) -> bool:
        return partition in self.instance.get_materialized_partitions(dg.AssetKey(asset))

    def run(
        self,
        job: str,
        partition: str,
        *,
        tags: Mapping[str, str] | None = None,
        assets: tuple[str, ...] = (),
        run_config: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """Execute a job (or some of its assets) for one partition as a real run; never raises for its failure."""
        result = self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=partition,
            tags=dict(tags or {}),
            run_config=QUIET | dict(run_config or {}),
            asset_selection=[dg.AssetKey(name) for name in assets] or None,
            raise_on_error=False,
        )
        return self.outcome_of(result.run_id)

    def run_with_key(self, job: str, partition: str, tags: Mapping[str, str]) -> Outcome:
        """As `run`, unless a daemon beside us already took the run key; then its run is waited for."""
        known = dg.RunsFilter(tags={RUN_KEY_TAG: tags[RUN_KEY_TAG]})
        if not self.instance.get_runs_count(known):
            return self.run(job, partition, tags=tags)
        while not (run := self.instance.get_runs(known, limit=1)[0]).is_finished:
            time.sleep(1.0)
        return self.outcome_of(run.run_id)

    def outcome_of(self, run_id: str) -> Outcome:
        """Read a finished run's event log; its problems go into the report."""
        outcome = Outcome()
        for entry in self.instance.all_logs(run_id):
            event = entry.dagster_event
            if event is None:
                continue
            if event.is_step_materialization:
                materialization = event.step_materialization_data.materialization
                outcome.metadata[materialization.asset_key.to_user_string()] = {
                    name: value.value for name, value in materialization.metadata.items()
                }
            elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                check = event.asset_check_evaluation_data
                if not check.passed and check.severity is dg.AssetCheckSeverity.ERROR:
                    code = check.metadata.get("reason_code")
                    asset = check.asset_key.to_user_string()
                    outcome.problems.append(
                        f"{asset}: {check.description}" + (f" [{code.value}]" if code else "")
                    )
            elif event.is_step_failure and "blocking asset check" not in _failure_in_words(event):
                outcome.problems.append(f"{event.step_key}: {_failure_in_words(event)}")
        run = self.instance.get_run_by_id(run_id)
        if run is not None and not run.is_success and not outcome.problems:
            outcome.problems.append(f"Run {run_id} of {run.job_name} failed; see it in the UI.")
        self.report.problems.extend(outcome.problems)
        return outcome


def run_demo(settings: Settings, videos: list[Path], console: Console) -> int:
    """Run the line; returns 0 only if every stage did its work."""
    disabled = logging.root.manager.disable
    # The runs keep their own logs; on this console they would bury the progress.
    logging.disable(logging.INFO)
    try:
        return _run_line(settings, videos, console)
    finally:
        logging.disable(disabled)


def _run_line(settings: Settings, videos: list[Path], console: Console) -> int:
    prepare_home(settings)
    console.print(f"[bold]ettametta demo[/] in {escape(str(settings.home_dir))}", soft_wrap=True)
    with _sandbox(settings), dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        demo = Demo(settings, instance, console)
        with _progress(console) as progress:
            stages: tuple[tuple[str, StageFunction], ...] = (
                ("Preparing", partial(prepare_stage, videos=videos)),
                ("Discovering", discover_stage),
                ("Synthesising", synthesis_stage),
                ("Taking uploads", upload_stage),
                ("Rendering", render_stage),
                ("Publishing", publish_stage),
                ("Reading metrics", metrics_stage),
                ("Booking money", revenue_stage),
            )
            bar = progress.add_task("", total=len(stages))
            for name, stage in stages:
                say = partial(_say, progress, bar, name)
                say("")
                started = time.monotonic()
                found = stage(demo, say)
                demo.report.stages.append(Stage(name, time.monotonic() - started, found))
                progress.advance(bar)
        print_summary(demo)
    return 1 if demo.report.problems else 0


def prepare_stage(demo: Demo, say: Say, *, videos: list[Path]) -> str:
    """Samples when no videos are given, the account's channels, and the files under `uploads/`."""
    if not videos:
        say("making sample videos")
        videos = make_samples(demo.settings.home_dir / "samples")
    for platform in ("youtube", "tiktok"):
        say(f"connecting {platform}")
        connect_platform(demo.settings, DEMO_ACCOUNT, platform, None)
    dropped = 0
    for number, file in enumerate(videos):
        try:
            dropped += _drop(demo, file, demo.niches[number % len(demo.niches)].slug)
        except PipelineError as error:
            demo.report.problems.append(str(error))
    demo.dropped_at = time.monotonic() if dropped else None
    return f"{len(videos)} videos, {dropped} newly dropped under uploads/"


def _drop(demo: Demo, file: Path, niche: str) -> bool:
    """Drop a file unless the inbox already took the same content; says whether it did."""
    if file.is_file():
        source_id = source_id_of(DEMO_ACCOUNT, file_sha256(file))
        with demo.state.session(write=False) as session:
            known = uploads.for_source(session, source_id)
        if known is not None:
            demo.report.source_ids.append(source_id)
            return False
    drop_upload(
        demo.store,
        file,
        account=DEMO_ACCOUNT,
        niche=niche,
        niches=demo.all_niches,
        day=demo.today,
        stated=_stated(demo, file),
    )
    return True


def _stated(demo: Demo, file: Path) -> dict[str, str | None]:
    """What the sidecar beside a local file says; without one, rights are assumed only where nothing goes out."""
    beside = file.with_name(file.name + SUFFIX)
    if beside.is_file():
        try:
            return parse_sidecar(beside.read_bytes()).model_dump()
        except SidecarInvalid as error:
            raise PermanentError(
                f"The sidecar {beside} cannot be used: {error}.", code="bad_sidecar", remedy="Correct it."
            ) from error
    sandboxed = all(demo.settings.endpoint(name).mode == "sandbox" for name in ("google", "tiktok"))
    return {"rights": "owned" if sandboxed else None, "title": title_from_name(file.name).capitalize()}


def discover_stage(demo: Demo, say: Say) -> str:
    """Discovery of today for two niches, unless it is there already, then the overview of the day."""
    done = demo.instance.get_materialized_partitions(dg.AssetKey("creative_briefs"))
    fresh = 0
    for niche in demo.niches:
        partition = day_niche_key(demo.today.isoformat(), niche.slug)
        if partition in done:
            continue
        say(niche.title)
        demo.run(DISCOVERY_JOB, partition, tags={NICHE_TAG: niche.slug})
        fresh += 1
    if fresh:
        demo.run(NICHE_OVERVIEW_JOB, demo.today.isoformat())
    (counts,) = demo.rows(
        "select (select count(*) from trend_candidates where day = $day) as candidates,"
        " (select count(*) from candidate_assessments where day = $day) as judged,"
        " (select count(*) from creative_briefs where day = $day) as briefs",
        {"day": demo.today},
    )
    for name in ("candidates", "judged", "briefs"):
        if not counts[name]:
            demo.report.problems.append(f"Discovery of {demo.today} made no {name}.")
    found = f"{counts['candidates']} candidates, {counts['judged']} judged, {counts['briefs']} briefs"
    return found if fresh else f"{found}, all from before"


def synthesis_stage(demo: Demo, say: Say) -> str:
    """One clip for the best brief of the first niche, by what costs nothing; it is handed in like an upload."""
    niche = demo.niches[0]
    say(niche.title)
    partition = day_niche_key(demo.today.isoformat(), niche.slug)
    config = {"account": DEMO_ACCOUNT, "engine": "cinematic", "top": 1, "seconds": 4.0, "fallback": False}
    outcome = demo.run(
        SYNTHESIS_JOB,
        partition,
        tags={ACCOUNT_TAG: DEMO_ACCOUNT, NICHE_TAG: niche.slug},
        run_config={"ops": {"synthesis_plans": {"config": config}}},
    )
    made = demo.rows(_SYNTHESIZED, {"day": demo.today, "account": DEMO_ACCOUNT})
    new = int(outcome.metadata.get("synthesized_clips", {}).get("handed_in", 0) or 0)
    if new:
        demo.dropped_at = time.monotonic()
    if not made:
        demo.report.problems.append(f"No clip was synthesised for {niche.title}.")
    for row in made:
        with demo.state.session(write=False) as session:
            known = uploads.for_source(session, row["source_id"])
        if known is not None and row["source_id"] not in demo.report.source_ids:
            demo.report.source_ids.append(row["source_id"])
    return f"{new} new clips, {len(made)} in all"


def upload_stage(demo: Demo, say: Say) -> str:
    """Evaluate the upload sensor once, as the daemon would; its run requests are executed by the next stage."""
    if demo.dropped_at is not None:
        say("letting the files settle")
        time.sleep(max(0.0, SETTLE.total_seconds() - (time.monotonic() - demo.dropped_at)))
    say("looking at the inbox")
    demo.requests, skipped = tick_upload_sensor(demo.instance, demo.definitions)
    for request in demo.requests:
        if request.partition_key not in demo.report.source_ids:
            demo.report.source_ids.append(str(request.partition_key))
    if not demo.report.source_ids:
        demo.report.problems.append(f"No upload became a source video. {skipped}")
    return f"{len(demo.requests)} new source videos, {len(demo.report.source_ids)} in all"


def render_stage(demo: Demo, say: Say) -> str:
    """Ingest what the sensor asked for; renditions of older videos are asked for again and found, not made again."""
    requested = {str(request.partition_key): request for request in demo.requests}
    for number, source_id in enumerate(demo.report.source_ids, start=1):
        say(f"{number} of {len(demo.report.source_ids)}")
        request = requested.get(source_id)
        if request is not None:
            tags = {**request.tags, RUN_KEY_TAG: str(request.run_key)}
            outcome = demo.run_with_key(INGEST_JOB, source_id, tags)
        elif demo.is_materialized("rendition_1x1", source_id):
            outcome = demo.run(INGEST_JOB, source_id, tags={ACCOUNT_TAG: DEMO_ACCOUNT}, assets=RENDITIONS)
        else:
            outcome = demo.run(INGEST_JOB, source_id, tags={ACCOUNT_TAG: DEMO_ACCOUNT})
        demo.report.new_renders += sum(
            bool(outcome.metadata.get(name, {}).get("rendered")) for name in RENDITIONS
        )
    made = demo.rows(_RENDITIONS_OF, {"sources": demo.report.source_ids})
    for row in made:
        if not demo.store.exists(row["object_key"]):
            demo.report.problems.append(f"{row['object_key']} is in the tables but not in the store.")
    accepted = demo.rows(
        "select source_id from source_media where verdict = 'accepted' and list_contains($sources, source_id)",
        {"sources": demo.report.source_ids},
    )
    if len(made) != len(RENDITIONS) * len(accepted) or not accepted:
        demo.report.problems.append(f"{len(accepted)} accepted videos have {len(made)} renditions.")
    return f"{demo.report.new_renders} new renders, {len(made)} renditions in all"


def publish_stage(demo: Demo, say: Say) -> str:
    """Ask for every post; the ledger answers for those that exist."""
    rendered = {row["source_id"] for row in demo.rows(_RENDITIONS_OF, {"sources": demo.report.source_ids})}
    for number, source_id in enumerate(sorted(rendered), start=1):
        say(f"{number} of {len(rendered)}")
        outcome = demo.run(
            PUBLISH_JOB, source_id, tags={ACCOUNT_TAG: DEMO_ACCOUNT}, run_config=_open_to_all(demo.settings)
        )
        demo.report.new_uploads += sum(bool(facts.get("posted")) for facts in outcome.metadata.values())
    live = [row for row in demo.rows(_POSTS_OF, {"sources": sorted(rendered)}) if row["state"] == "PUBLISHED"]
    if len(live) != 2 * len(rendered):
        demo.report.problems.append(f"{len(live)} of {2 * len(rendered)} posts are published.")
    return f"{demo.report.new_uploads} new uploads, {len(live)} posts in all"


def metrics_stage(demo: Demo, say: Say) -> str:
    """Statistics of our own posts, as of now."""
    demo.run(METRICS_JOB, demo.today.isoformat())
    rows = demo.rows(
        "select * from publication_metrics where day = $day and list_contains($sources, source_id)",
        {"day": demo.today, "sources": demo.report.source_ids},
    )
    if not rows:
        demo.report.problems.append("No statistics of our posts came back.")
    return f"{len(rows)} posts observed, {sum(row['views'] or 0 for row in rows)} views"


def revenue_stage(demo: Demo, say: Say) -> str:
    """Book the last closed business day."""
    say(demo.closed_day.isoformat())
    demo.run(REVENUE_JOB, demo.closed_day.isoformat())
    rows = demo.rows(_BOOKED, {"day": demo.closed_day})
    if not rows:
        demo.report.problems.append(f"Nothing was booked for {demo.closed_day}.")
    return f"{', '.join(_net(row) for row in rows)} net on {demo.closed_day}"


def _open_to_all(settings: Settings) -> dict[str, Any]:
    """Whoever runs the demo approves its posts. In the sandbox they are public, so that they have addresses and views;
    a live channel keeps the safe default."""
    widest = {"youtube": ("google", "public"), "tiktok": ("tiktok", "PUBLIC_TO_EVERYONE")}
    ops = {
        f"{platform}_publications": {
            "config": {"approve": True}
            | ({"privacy": privacy} if settings.endpoint(vendor).mode == "sandbox" else {})
        }
        for platform, (vendor, privacy) in widest.items()
    }
    return {"ops": ops}


_SYNTHESIZED = (
    "select * from synthesized_clips where day = $day and account = $account and status = 'made'"
    " order by plan_id"
)
_RENDITIONS_OF = " union all by name ".join(
    f"select * from {table} where list_contains($sources, source_id)"  # noqa: S608
    for table in RENDITIONS
)
_POSTS_OF = " union all by name ".join(
    f"select * from {table} where list_contains($sources, source_id)"  # noqa: S608
    for table in ("youtube_publications", "tiktok_publications")
)
_BOOKED = (
    "select currency, sum(gross_minor)::bigint as gross_minor, sum(fee_minor)::bigint as fee_minor,"
    " sum(net_minor)::bigint as net_minor from daily_revenue where day = $day group by currency order by currency"
)


def _net(row: Mapping[str, Any]) -> str:
    return str(Money(int(row["net_minor"]), row["currency"]))


def print_summary(demo: Demo) -> None:
    """What was found, made, posted and booked, and how to see it."""
    console, report = demo.console, demo.report
    console.print()
    table = Table("stage", "result", "seconds", title="The line", title_justify="left")
    for stage in report.stages:
        table.add_row(stage.name, stage.found, f"{stage.seconds:.1f}")
    console.print(table)
    for niche in demo.niches:
        best = demo.rows(
            "select title, score from scored_candidates where day = $day and niche = $niche"
            " order by score desc limit 3",
            {"day": demo.today, "niche": niche.slug},
        )
        console.print(f"[bold]Rising in {escape(niche.title)}[/]")
        for row in best:
            console.print(f"  {row['score']:.2f}  {escape(row['title'])}")
    console.print("[bold]Clips[/]")
    for row in demo.rows(_SYNTHESIZED, {"day": demo.today, "account": DEMO_ACCOUNT}):
        cost = f"{row['cost_microusd'] / 1e6:.2f} USD" if row["cost_microusd"] else "free"
        console.print(
            f"  {row['engine']:<10} {row['frames'] / row['fps']:.1f} s  {cost}  {escape(row['title'])}",
            soft_wrap=True,
        )
    console.print("[bold]Files[/]")
    for row in demo.rows(_RENDITIONS_OF, {"sources": report.source_ids}):
        place = demo.store.local_path(row["object_key"]) or f"{demo.store.url}/{row['object_key']}"
        console.print(f"  {row['width']}x{row['height']}  {row['duration_s']:.1f} s  {place}", soft_wrap=True)
    console.print("[bold]Posts[/]")
    for row in demo.rows(_POSTS_OF, {"sources": report.source_ids}):
        console.print(f"  {row['platform']:<8} {row['privacy']:<18} {escape(row['url'])}", soft_wrap=True)
    console.print(f"[bold]Money booked for {demo.closed_day}[/]")
    for row in demo.rows(_BOOKED, {"day": demo.closed_day}):
        gross, fee = (
            Money(int(row["gross_minor"]), row["currency"]),
            Money(int(row["fee_minor"]), row["currency"]),
        )
        console.print(f"  {gross} gross - {fee} fees = {_net(row)} net")
    console.print()
    console.print(f"{report.new_renders} new renders, {report.new_uploads} new uploads.")
    if report.problems:
        console.print(f"[red]{len(report.problems)} problems:[/]")
        for problem in report.problems:
            console.print(f"  {escape(problem)}", soft_wrap=True)
    console.print(
        f"See it all: make dev, then http://127.0.0.1:{demo.settings.ui_port} "
        "(posts of the sandbox open while it runs).",
        soft_wrap=True,
    )


def _failure_in_words(event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error is not None else "failed without a message"


@contextmanager
def _sandbox(settings: Settings) -> Iterator[None]:
    """The sandbox for the time of the demo, where any vendor needs it; one that already runs is used."""
    if not uses_sandbox(settings):
        yield
        return
    home = settings.home_dir
    if _serves_sandbox(settings.sandbox_url, home):
        yield
        return
    with SandboxServer(home, settings.sandbox_port):
        yield


def _serves_sandbox(url: str, home: Path) -> bool:
    """Whether our sandbox for this very home answers there, as it does beside a running `ettametta dev`."""
    import httpx

    try:
        health = httpx.get(f"{url}/healthz", timeout=2.0).json()
    except (httpx.HTTPError, ValueError):
        return False
    return bool(health == {"service": "ettametta-sandbox", "home": str(home)})


def _say(progress: Progress, bar: TaskID, stage: str, detail: str) -> None:
    progress.update(bar, description=f"{stage}: {detail}" if detail else stage)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
