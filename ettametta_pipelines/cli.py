"""`ettametta`: the command line. Every command calls the same functions the assets call and holds no logic.

Expected failures end with one sentence and a remedy on stderr and exit code 1 (2 for a rejected file), never with
a stack trace. Imports happen inside the commands, so that `--help` answers at once.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.settings import get_settings

app = typer.Typer(
    name="ettametta",
    help="From rising trend to booked revenue. The Dagster UI is the product; this is its tool belt.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# Piped output is for files and scripts: wide enough that no cell is cut.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 240)
err = Console(stderr=True, highlight=False)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)]

STANDING_STYLE = {"live": "green", "sandbox": "cyan", "missing": "yellow", "broken": "red"}


def print_json(document: Any) -> None:
    sys.stdout.write(json.dumps(document, indent=2, default=str, ensure_ascii=False) + "\n")


@app.command()
def doctor(
    integration: Annotated[
        str | None, typer.Argument(help="Show how this one goes live, step by step; all shows every one.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show where each integration stands: live, sandbox, missing or broken, and why."""
    from ettametta_pipelines.commands.doctor import examine, is_healthy
    from ettametta_pipelines.commands.going_live import STEPS, first_steps, steps

    if integration is not None:
        if integration != "all" and integration not in STEPS:
            raise typer.BadParameter(f"there are {', '.join(STEPS)}, and all.")
        asked = list(STEPS) if integration == "all" else [integration]
        found = {name: steps(get_settings(), name) for name in asked}
        if as_json:
            print_json(found)
            return
        for name, lines in found.items():
            out.print(Text(name, style="bold"))
            for number, line in enumerate(lines, start=1):
                out.print(Text(f"  {number}. {line}"), soft_wrap=True)
        return
    integrations, parts = examine(get_settings())
    healthy = is_healthy(integrations, parts)
    if as_json:
        print_json(
            {
                "healthy": healthy,
                "integrations": [row.as_dict() for row in integrations],
                "parts": [part.as_dict() for part in parts],
            }
        )
    else:
        table = Table("integration", "standing", "for", "live with, or why", box=SIMPLE_HEAD)
        for row in integrations:
            style = STANDING_STYLE[row.standing]
            table.add_row(row.integration, Text(row.standing, style=style), row.purpose, Text(row.in_short))
        out.print(table)
        table = Table("this machine", "", "", box=SIMPLE_HEAD)
        for part in parts:
            table.add_row(part.part, "[green]ok[/]" if part.ok else "[red]broken[/]", Text(part.detail))
        out.print(table)
        for line in first_steps(get_settings()) if healthy else []:
            out.print(Text(line), soft_wrap=True)
        if any(row.standing == "sandbox" for row in integrations):
            out.print(
                f"The local sandbox ({get_settings().sandbox_url}) stands in for what is not live. How one goes live, "
                "step by step: ettametta doctor google",
                soft_wrap=True,
            )
    raise typer.Exit(0 if healthy else 1)


@app.command()
def demo(
    videos: Annotated[
        list[Path] | None, typer.Argument(help="Videos to use instead of made samples.")
    ] = None,
) -> None:
    """Run the whole line once on this machine and print what it made."""
    from ettametta_pipelines.commands.demo import run_demo

    raise typer.Exit(run_demo(get_settings(), videos or [], out))


@app.command()
def dev() -> None:
    """Start the Dagster UI, daemon, sandbox and gateway until Ctrl-C."""
    from ettametta_pipelines.commands.devserver import run_dev

    raise typer.Exit(run_dev(get_settings(), out))


@app.command()
def render(
    file: Path,
    recipe: Annotated[str, typer.Option(help="Preset name, or path of a recipe file.")] = "cinematic",
    formats: Annotated[
        str | None,
        typer.Option(help="Comma-separated: 9x16, 16x9, 1x1; all, or the platform's, if not given."),
    ] = None,
    out_dir: Annotated[Path, typer.Option("--out", help="Directory the renditions go to.")] = Path("."),
    seed: Annotated[int | None, typer.Option(help="Overrides the recipe's seed.", min=0)] = None,
    captions: Annotated[
        Path | None, typer.Option(help="Captions to burn in: .srt, .vtt, or .json word timings.")
    ] = None,
    platform: Annotated[
        str | None, typer.Option(help="Render what a platform takes; `ettametta platforms` lists them.")
    ] = None,
    broll: Annotated[
        str | None, typer.Option(help="Cut away to stock footage of these: comma-separated keywords.")
    ] = None,
    broll_dir: Annotated[Path | None, typer.Option(help="Cut away to your own clips in this folder.")] = None,
    voice_over: Annotated[
        str | None, typer.Option(metavar="TEXT|@FILE", help="Text to be spoken over the video.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="Language of the spoken text, such as en or pt-BR.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="x264, nvenc, qsv, vaapi or auto; ETTAMETTA_ENCODER if not given.")
    ] = None,
    remake_voice: Annotated[
        bool, typer.Option("--remake-voice", help="Buy a voice-over again whose answer was lost.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Render a file without the orchestrator: the same engine the renditions use."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from ettametta_pipelines.orchestration.resources import PexelsResource
    from ettametta_pipelines.renders.broll import split_keywords
    from ettametta_pipelines.renders.broll_file import FileBroll
    from ettametta_pipelines.renders.engine import RenderProgress, render_file
    from ettametta_pipelines.renders.formats import FORMATS
    from ettametta_pipelines.renders.platforms import choose_platform
    from ettametta_pipelines.renders.voiceover import VoiceWish, open_studio, read_text
    from ettametta_pipelines.storage.objects import open_store

    if formats is not None:
        wanted = formats.split(",")
    else:
        wanted = [choose_platform(platform).format] if platform else list(FORMATS)
    store = open_store(get_settings())
    footage = FileBroll(store, PexelsResource().client, split_keywords(broll or ""), broll_dir)
    wish = VoiceWish(read_text(voice_over), language, remake_voice) if voice_over else None
    studio = open_studio(get_settings(), store) if wish else None
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True) as progress:
        task = progress.add_task(f"Rendering {escape(file.name)}", total=100)

        def show(update: RenderProgress) -> None:
            progress.update(task, completed=update.percent)

        document = render_file(
            file,
            recipe,
            wanted,
            out_dir,
            seed=seed,
            captions=captions,
            broll=footage,
            voice=wish,
            studio=studio,
            platform=platform,
            encoder=encoder or get_settings().encoder,
            progress=show,
        )
    if as_json:
        print_json(document)
        return
    if document["captions"] and document["captions"]["left_out"]:
        out.print(f"Not in the caption font, so left out: {document['captions']['left_out']}", markup=False)
    if document["subject"]:
        out.print(f"Subject: {document['subject']}", markup=False)
    if document["broll"]:
        out.print("Cutaways: " + document["broll"]["said"], markup=False, soft_wrap=True)
        for credit in document["broll"]["credits"]:
            out.print(credit, markup=False, soft_wrap=True)
    if spoken := document["voice_over"]:
        by = f"{spoken['engine']}, {spoken['voice']}" + (
            f"; {spoken['fallback']}" if spoken["fallback"] else ""
        )
        out.print(f"Spoken: {spoken['words']} words in {spoken['seconds']:.1f} s ({by})", markup=False)
    for made in document["outputs"]:
        out.print(
            f"{made['path']}  {made['width']}x{made['height']}  {made['duration_s']:.2f} s", soft_wrap=True
        )


@app.command()
def platforms(as_json: JsonFlag = False) -> None:
    """Show what each platform takes, and which part of the picture it covers with its own controls."""
    from ettametta_pipelines.renders.platforms import PLATFORMS, table_rows

    if as_json:
        print_json([row.as_dict() for row in PLATFORMS.values()])
        return
    heading, *rows = table_rows()
    table = Table(*heading)
    for cells in rows:
        table.add_row(*map(Text, cells))
    out.print(table)
    out.print(
        "~ is not stated by the platform itself: others measured or advise it, and it refuses no video."
    )


@app.command()
def probe(file: Path, as_json: JsonFlag = False) -> None:
    """Say whether intake would accept a file, and if not, why (exit 2)."""
    from ettametta_pipelines.media.probe import probe_file

    verdict = probe_file(file)
    if as_json:
        print_json(verdict.as_dict())
    elif verdict.accepted:
        out.print(Text("accepted ", style="green") + Text(verdict.summary))
    else:
        said = f"{verdict.reason_code}: {verdict.reason} {verdict.remedy}"
        out.print(Text("rejected ", style="red") + Text(said))
    raise typer.Exit(0 if verdict.accepted else 2)


@app.command()
def affiliate_import(
    file: Path,
    network: Annotated[str, typer.Option(help="Network slug, such as amazon-de.")],
) -> None:
    """Import a network's export of commissions (CSV); the same file again changes nothing."""
    from ettametta_pipelines.clock import utc_now
    from ettametta_pipelines.partitions import FIRST_DAY
    from ettametta_pipelines.revenue.affiliates import MAX_BYTES, import_csv
    from ettametta_pipelines.storage.objects import open_store

    settings = get_settings()
    with file.open("rb") as export:
        # One byte more than is taken tells a file that is too large, however large it is.
        data = export.read(MAX_BYTES + 1)
    done = import_csv(
        open_store(settings), network, file.name, data, timezone=settings.timezone, now=utc_now()
    )
    said = (
        "was imported before; nothing changed"
        if done.was_known
        else f"brought {done.rows} rows of {done.days} days"
    )
    out.print(Text(f"{file.name} {said}"))
    if done.oldest is not None and done.oldest.isoformat() < FIRST_DAY:
        said = (
            f"Sales before {FIRST_DAY}, where the books begin (ETTAMETTA_FIRST_DAY), are kept and not booked."
        )
        out.print(Text(said))


@app.command()
def samples(
    out_dir: Annotated[Path, typer.Option("--out", help="Directory the videos go to.")] = Path("samples"),
) -> None:
    """Draw three short videos to try things with."""
    from ettametta_pipelines.media.samples import make_samples

    # ffmpeg works in a directory of its own.
    for video in make_samples(out_dir.resolve()):
        out.print(Text(str(video)), soft_wrap=True)


@app.command()
def upload(
    file: Path,
    account: Annotated[str, typer.Option(help="Account slug.")],
    niche: Annotated[str, typer.Option(help="Niche slug, as in the niches file.")],
    rights: Annotated[
        str | None, typer.Option(help="owned, licensed, cc_by or generated; without it nothing is published.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the posts; the file name if not given.")] = None,
    attribution: Annotated[str | None, typer.Option(help="Credit line; needed for cc_by.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Render preset.")] = None,
    captions: Annotated[
        Path | None, typer.Option(help="Its captions: .srt, .vtt, or .json word timings.")
    ] = None,
    broll_keywords: Annotated[
        str | None, typer.Option(help="What footage for cutaways shall show, comma-separated.")
    ] = None,
    voice_over: Annotated[
        str | None,
        typer.Option(metavar="TEXT|@FILE", help="Text to be spoken where the recipe has a voice-over."),
    ] = None,
    language: Annotated[str | None, typer.Option(help="Language of that text, such as en or pt-BR.")] = None,
    brief: Annotated[
        str | None, typer.Option(help="The brief_id it was made after, so that scores learn from its views.")
    ] = None,
    sponsor: Annotated[
        str | None, typer.Option(help="Who pays for it: every post of it declares a paid promotion.")
    ] = None,
) -> None:
    """Put a file under uploads/ as a user would; the upload sensor does the rest."""
    from ettametta_pipelines.clock import business_day_of, utc_now
    from ettametta_pipelines.discovery.niches import load_niches
    from ettametta_pipelines.media.inbox import drop_upload
    from ettametta_pipelines.media.rights import UNDECLARED, publishing_obstacle
    from ettametta_pipelines.renders.recipe import load_preset
    from ettametta_pipelines.renders.voiceover import read_text
    from ettametta_pipelines.storage.objects import open_store

    settings = get_settings()
    store = open_store(settings)
    if recipe is not None:
        load_preset(recipe)
    key = drop_upload(
        store,
        file,
        account=account,
        niche=niche,
        niches=load_niches(settings.niches_file),
        day=business_day_of(utc_now(), settings.timezone),
        stated={
            "rights": rights,
            "attribution": attribution,
            "title": title,
            "recipe": recipe,
            "broll_keywords": broll_keywords,
            "voice_over": read_text(voice_over) if voice_over else None,
            "language": language,
            "brief_id": brief,
            "sponsor": sponsor,
        },
        captions=captions,
    )
    out.print(Text(f"Uploaded to {store.url}/{key}"), soft_wrap=True)
    out.print(f"The upload sensor of that home looks every {settings.upload_look_s} seconds.")
    if obstacle := publishing_obstacle(rights or UNDECLARED, attribution):
        out.print(Text(obstacle, style="yellow"), soft_wrap=True)


@app.command()
def restore(
    source_ids: Annotated[list[str], typer.Argument(help="Source ids, as in archived_videos.")],
) -> None:
    """Call archived source videos back, so that they can be rendered or posted anew."""
    from ettametta_pipelines.automation.restoring import restore_from_command

    restore_from_command(get_settings(), source_ids)
    out.print(Text(f"{', '.join(source_ids)}: back among the partitions of source_video."), soft_wrap=True)


@app.command()
def backfill_cost(
    what: Annotated[
        str, typer.Option("--asset", help="discovery, scoring, rescoring, revenue, renders, or an asset.")
    ],
    first: Annotated[str, typer.Option("--from", help="First day, such as 2026-10-01.")],
    last: Annotated[str, typer.Option("--to", help="Last day.")],
    niche: Annotated[list[str] | None, typer.Option(help="Only this niche; may be repeated.")] = None,
) -> None:
    """What a backfill would take: runs, time, storage, money and quota. Launches nothing."""
    from rich.markdown import Markdown

    from ettametta_pipelines.automation.backfill_estimate import estimate_from_command, question

    answer = estimate_from_command(get_settings(), question(what, first, last, niche or ()))
    out.print(Markdown(answer.table()))
    out.print(Markdown(answer.in_words()))


@app.command()
def connect(
    account: Annotated[str, typer.Option(help="Account slug.")],
    platform: Annotated[str, typer.Option(help="youtube or tiktok.")],
    code: Annotated[
        str | None, typer.Option(help="OAuth code from the consent page; not needed in the sandbox.")
    ] = None,
) -> None:
    """Connect an account's channel, so that its videos can be published."""
    from ettametta_pipelines.commands.channels import connect_platform

    connection = connect_platform(get_settings(), account, platform, code)
    out.print(Text(f"{account} publishes to {platform} as {connection.channel_title}."), soft_wrap=True)


@app.command()
def migrate() -> None:
    """Bring the schemas of Dagster and of the state to this version's, and set the widths of the pools."""
    from ettametta_pipelines.orchestration.kubernetes_runs import migrate_everything

    for line in migrate_everything(get_settings()):
        out.print(Text(line), soft_wrap=True)


keys = typer.Typer(help="The keys that tokens and other secrets are encrypted with.", no_args_is_help=True)
app.add_typer(keys, name="keys")


@keys.command()
def show(as_json: JsonFlag = False) -> None:
    """How many secrets are under which key; the first key encrypts."""
    from ettametta_pipelines.publishing.keys import usage
    from ettametta_pipelines.publishing.tokens import open_envelope
    from ettametta_pipelines.state.session import open_state

    found = usage(open_state(get_settings()), open_envelope(get_settings()))
    if as_json:
        print_json(found)
        return
    table = Table("key", "secrets")
    for key_id, number in found.items():
        table.add_row(Text(key_id), str(number))
    out.print(table)


@keys.command()
def rotate(
    new: Annotated[
        bool, typer.Option("--new", help="Put a new key in front of the key file's first.")
    ] = False,
) -> None:
    """Move every secret to the first key. Can be broken off and run again, while everything works."""
    from ettametta_pipelines.publishing import keys as encryption
    from ettametta_pipelines.publishing.tokens import open_envelope
    from ettametta_pipelines.state.session import open_state

    if new:
        out.print(f"New key {encryption.add_key(get_settings())}.")
    done = encryption.rotate(open_state(get_settings()), open_envelope(get_settings()))
    out.print(f"{done.moved} secrets moved to the first key; {done.already} were under it.")
    if done.unreadable:
        err.print(
            f"{done.unreadable} are under no key that is configured: put the old keys behind the first."
        )
        raise typer.Exit(1)


@keys.command()
def drop() -> None:
    """Remove every key but the first from the key file, once nothing is under them."""
    from ettametta_pipelines.publishing.keys import drop_old_keys
    from ettametta_pipelines.state.session import open_state

    out.print(f"{drop_old_keys(get_settings(), open_state(get_settings()))} old keys removed.")


@app.command()
def plan(
    account: Annotated[str, typer.Argument(help="Account slug.")],
    checkout: Annotated[bool, typer.Option("--checkout", help="Print the address to buy a tier at.")] = False,
    tier: Annotated[str, typer.Option(help="The tier to buy.")] = "creator",
    portal: Annotated[bool, typer.Option("--portal", help="Print the customer portal's address.")] = False,
    change_to: Annotated[str | None, typer.Option(help="Change to this tier.")] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="End with the paid period.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Take a cancellation back.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show an account's plan and its videos, as Stripe has it now; sell, change or end it."""
    from ettametta_pipelines.billing.desk import do_for_account

    asked = [("checkout", tier)] if checkout else []
    asked += [("portal", "")] if portal else []
    asked += [("change", change_to)] if change_to else []
    asked += [("cancel", "")] if cancel else []
    asked += [("resume", "")] if resume else []
    answer = do_for_account(get_settings(), account, asked)
    if as_json:
        print_json(answer.as_dict())
        return
    for line in answer.lines():
        out.print(Text(line), soft_wrap=True)


@app.command()
def alert_test(
    route: Annotated[str | None, typer.Option(help="Only this route; every one if not given.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Send a test message along the routes of alerts, and say which targets took it."""
    from ettametta_pipelines.operations.alert_check import send_test

    tried = send_test(get_settings(), route)
    if as_json:
        print_json([vars(one) for one in tried])
    else:
        table = Table("route", "target", "")
        for one in tried:
            said = Text(one.problem, style="red") if one.problem else Text("took it", style="green")
            table.add_row(Text(one.route), Text(one.target), said)
        out.print(table)
    raise typer.Exit(1 if any(one.problem for one in tried) else 0)


@app.command()
def retry_webhooks() -> None:
    """Let messages of vendors that were parked be tried again, once their cause is mended."""
    from ettametta_pipelines.state.inbox import retry_parked
    from ettametta_pipelines.state.session import open_state

    out.print(f"{retry_parked(open_state(get_settings()))} messages will be tried again.")


@app.command()
def trace(
    identifier: str,
    full: Annotated[bool, typer.Option("--full", help="All of it, not only what fits a screen.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Everything behind a source, rendition or publication."""
    from ettametta_pipelines.commands.trace import print_trace, trace_of

    chain = trace_of(get_settings(), identifier)
    if as_json:
        print_json(chain)
    else:
        print_trace(chain, out, full=full)


@app.command()
def sql(
    statement: Annotated[str, typer.Argument(help='For example: "select * from daily_revenue"')],
    as_json: JsonFlag = False,
) -> None:
    """DuckDB over the lake's tables; read-only."""
    from ettametta_pipelines.catalog import ALL_TABLES
    from ettametta_pipelines.storage.lake import open_lake

    with open_lake(get_settings(), ALL_TABLES) as lake:
        rows = lake.rows(statement)
    if as_json:
        print_json(rows)
        return
    table = Table(*(rows[0] if rows else ()))
    for row in rows:
        table.add_row(*[_shown(value) for value in row.values()])
    if Measurement.get(out, out.options, table).minimum < out.width and len(table.columns) <= out.width // 12:
        out.print(table)
    else:
        for number, row in enumerate(rows, start=1):
            out.rule(f"row {number}", align="left")
            for name, value in row.items():
                out.print(Text(f"{name:<24} ") + _shown(value), soft_wrap=True)
    out.print(f"{len(rows)} rows")


def _shown(value: object) -> Text:
    return Text("" if value is None else str(value))


@app.command()
def sandbox(
    host: Host = "127.0.0.1",
    port: Port = None,
    latency_ms: Annotated[float, typer.Option(min=0, help="Wait so long before every answer.")] = 0,
) -> None:
    """Serve the local stand-ins of every vendor."""
    from ettametta_pipelines.sandbox.server import serve

    settings = get_settings()
    port = port if port is not None else settings.sandbox_port
    serve(settings.home_dir, host, port, latency_s=latency_ms / 1000)


@app.command()
def gateway(host: Host = "127.0.0.1", port: Port = None) -> None:
    """Serve health probes, media links, webhooks, and the operators' pages (channels, posts)."""
    from ettametta_pipelines.gateway.server import serve_gateway

    settings = get_settings()
    serve_gateway(settings, host, port if port is not None else settings.gateway_port)


@app.command()
def render_node(host: Host = "127.0.0.1", port: Port = None) -> None:
    """Serve a render node: takes jobs for this machine's GPUs over HTTP, queues them on Redis, keeps the clips."""
    from ettametta_pipelines.synthesis.render_node.server import serve_render_node

    settings = get_settings()
    serve_render_node(settings, host, port if port is not None else settings.render_node_port)


@app.command()
def metrics(host: Host = "127.0.0.1", port: Port = None) -> None:
    """Serve figures of the pipeline for Prometheus: runs, queue, sensors, posts, quotas, money, backlogs."""
    from ettametta_pipelines.automation.metrics import serve_metrics

    settings = get_settings()
    serve_metrics(settings, host, port if port is not None else settings.metrics_port)


@app.command()
def gpu_pods(
    sweep: Annotated[bool, typer.Option("--sweep", help="Delete those whose run is over.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show the GPU pods of the cluster, and remove those that outlived their run."""
    from ettametta_pipelines.automation.gpu_janitor import pods_of_cluster

    found = pods_of_cluster(get_settings(), remove=sweep)
    if as_json:
        print_json([pod.as_dict() for pod in found])
        return
    table = Table("pod", "run", "stage", "minutes", "")
    for pod in found:
        note = ("removed" if sweep else "outlived its run") if pod.is_leaked else ""
        table.add_row(
            Text(pod.name), Text(pod.run_id), pod.stage, f"{pod.age.total_seconds() / 60:.0f}", note
        )
    out.print(table)


def main() -> None:
    """Entry point: expected failures become one message and an exit code."""
    # Dagster says of its own classes that they may change; the pinned version answers that, not our user.
    warnings.filterwarnings("ignore", message=r".*currently in (beta|preview).*")
    try:
        app()
    except PipelineError as error:
        err.print(Text(error.message, style="red"), soft_wrap=True)
        if error.remedy:
            err.print(Text(error.remedy), soft_wrap=True)
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        err.print(Text(f"{where}{error.strerror or error}", style="red"), soft_wrap=True)
        err.print("Check the path, its permissions and the space left.")
        sys.exit(1)


if __name__ == "__main__":
    main()
