"""`ettametta trace`: everything behind one source, rendition or publication, from upload to posts.

Reads the lake and the publication ledger; writes nothing. Any id an operator meets works: a source id, the object
key or render key of a rendition, a publication's id, a platform's own post id, an upload's key.
"""

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.money import Money, totals
from ettametta_pipelines.operations.archiving import archived_since
from ettametta_pipelines.publishing.trace import publication_chain, source_of_publication
from ettametta_pipelines.publishing.what_now import what_now
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state import uploads
from ettametta_pipelines.state.session import StateDatabase, open_state
from ettametta_pipelines.storage.lake import Lake, open_lake

LONGEST_LINE = 4_000
RENDITION_TABLES = ("rendition_9x16", "rendition_16x9", "rendition_1x1")

_SOURCE_BY_RENDITION = " union all ".join(
    f"select source_id from {table} where object_key = $id or render_key = $id or sha256 = $id"  # noqa: S608
    for table in RENDITION_TABLES
)
_RENDITIONS = " union all by name ".join(
    f"select * from {table} where source_id = $id"  # noqa: S608
    for table in RENDITION_TABLES
)

_REVENUE = """
select platform, publication_id, source, rule, currency, exponent, livemode,
    sum(gross_minor) as gross_minor, sum(fee_minor) as fee_minor, sum(net_minor) as net_minor,
    count(distinct item_id) as items, min(day) as first_day, max(day) as last_day
from revenue_attribution where source_id = $id group by all order by all
"""
_COSTS = """
select mode, kind, vendor, account, sum(cost_microusd) as cost_microusd, count(*) as calls
from content_costs where source_id = $id group by all order by all
"""


def trace_of(settings: Settings, identifier: str) -> dict[str, Any]:
    """The chain as one JSON-able document. Raises PermanentError `unknown_id` when nothing has that id."""
    state = open_state(settings)
    with open_lake(settings, ALL_TABLES) as lake:
        source_id = _source_id_of(lake, state, identifier)
        return {
            "source_id": source_id,
            "archived_at": archived_since(state, source_id),
            "source": _first(lake, "select * from source_media where source_id = $id", source_id),
            "analysis": _first(lake, "select * from media_analysis where source_id = $id", source_id),
            "renditions": _rows(lake, _RENDITIONS, source_id),
            "thumbnails": _rows(
                lake, "select * from thumbnails where source_id = $id order by shape, rank", source_id
            ),
            "publications": publication_chain(state, source_id),
            "metrics": _rows(
                lake,
                "select * from publication_metrics where source_id = $id order by observed_at",
                source_id,
            ),
            "revenue": _rows(lake, _REVENUE, source_id),
            "costs": _rows(lake, _COSTS, source_id),
        }


def _source_id_of(lake: Lake, state: StateDatabase, identifier: str) -> str:
    lookups: tuple[Callable[[], str | None], ...] = (
        lambda: _only(
            lake,
            "select source_id from source_media where $id in (source_id, object_key, sha256)",
            identifier,
        ),
        lambda: _only(lake, _SOURCE_BY_RENDITION, identifier),
        lambda: source_of_publication(state, identifier),
        lambda: _source_of_upload(state, identifier),
    )
    for lookup in lookups:
        found = lookup()
        if found is not None:
            return found
    raise PermanentError(
        f"Nothing here has the id {identifier!r}.",
        code="unknown_id",
        remedy='List what there is with: ettametta sql "select source_id, title, verdict from source_media"',
    )


def _source_of_upload(state: StateDatabase, object_key: str) -> str | None:
    with state.session(write=False) as session:
        upload = uploads.newest_of_key(session, object_key)
    if upload is None or upload.source_id is not None:
        return upload.source_id if upload else None
    raise PermanentError(
        f"{object_key} was refused: {upload.reason}",
        code=str(upload.reason_code),
        remedy="Correct it and upload it again.",
    )


def _rows(lake: Lake, statement: str, identifier: str) -> list[dict[str, Any]]:
    return lake.rows(statement, {"id": identifier})


def _first(lake: Lake, statement: str, identifier: str) -> dict[str, Any] | None:
    rows = _rows(lake, statement, identifier)
    return rows[0] if rows else None


def _only(lake: Lake, statement: str, identifier: str) -> str | None:
    row = _first(lake, statement, identifier)
    return str(row["source_id"]) if row else None


def print_trace(chain: dict[str, Any], console: Console, *, full: bool = False) -> None:
    """The chain as a tree for people: at most a screen of 40 lines, each cut to the console's width, unless `full`."""
    tree = Tree(f"[bold]{escape(chain['source_id'])}[/]")
    if source := chain["source"]:
        tree.add(
            _line(source, "title", "verdict", "reason", "rights", "upload_key", "object_key", "duration_s")
        )
    if since := chain.get("archived_at"):
        tree.add(
            f"archived {since:%Y-%m-%d}; to render it anew: ettametta restore {escape(chain['source_id'])}"
        )
    if chain["analysis"]:
        tree.add("analysis " + _line(chain["analysis"], "shot_count", "loudness_lufs", "contact_sheet_key"))
    shown = ("format", "recipe_name", "seed", "render_key", "object_key", "size_bytes")
    rows = chain["renditions"]
    _few(tree.add(f"renditions: {len(rows)}"), [_line(row, *shown) for row in rows], 3, full)
    _add_thumbnails(tree, chain, full)
    _add_publications(tree, chain["publications"], full)
    metrics = tree.add(f"metrics: {len(chain['metrics'])} observations")
    for row in chain["metrics"][-2:]:
        metrics.add(_line(row, "platform", "observed_at", "views", "likes", "comments"))
    _add_money(tree, chain, full)
    if full:
        console.print(tree)
    elif console.is_terminal:
        console.print(tree, no_wrap=True, overflow="ellipsis")
    else:
        # Somebody's grep wants the whole of a line.
        width, console.width = console.width, LONGEST_LINE
        console.print(tree)
        console.width = width


def _few(branch: Tree, lines: Sequence[str], most: int, full: bool) -> None:
    """The first `most` lines, and how many more there are."""
    for line in lines if full else lines[:most]:
        branch.add(line)
    if not full and len(lines) > most:
        branch.add(f"[dim]{len(lines) - most} more with --full[/]")


def _add_thumbnails(tree: Tree, chain: dict[str, Any], full: bool) -> None:
    set_on, rows = _set_on(chain["publications"]), chain["thumbnails"]
    lines = [
        f"{_line(row, 'shape', 'rank', 'variant', 'object_key')}  "
        f"[bold]{escape(set_on.get(row['sha256'], 'not used'))}[/]"
        for row in rows
        if full or row["sha256"] in set_on
    ]
    _few(tree.add(f"thumbnails: {len(rows)}, {len(set_on)} used"), lines, 2, full)


def _add_publications(tree: Tree, rows: list[dict[str, Any]], full: bool) -> None:
    """Each post with what is wrong and to do; in full with its rights, what was set on it, and all its states."""
    publications = tree.add(f"publications: {len(rows)}")
    for row in rows if full else rows[-3:]:
        branch = publications.add(
            _line(row, "platform", "state", "intent_no", "remote_id", "url", "privacy", "publication_id")
        )
        if row.get("error_code"):
            branch.add(_line(row, "error_code", "error_message", "next_check_at"))
        if advice := what_now(row["state"], row.get("error_code"), row.get("intent_no") or 1):
            branch.add(f"[bold]to do[/] {escape(advice)}")
        if not full:
            continue
        for record in row.get("rights") or []:
            branch.add(
                "right "
                + _line(
                    record, "kind", "id", "right", "credit", "licence", "evidence", "standing", "declared_by"
                )
            )
        for extra in row.get("extras") or []:
            became = "set" if extra["done_at"] else "refused"
            branch.add(
                f"{escape(extra['kind'])} {became} "
                + _line(extra, "done_at", "tried_at", "object_key", "error_code", "error_message")
            )
        for event in row.get("events", []):
            branch.add(_line(event, "at", "from_state", "to_state", "reason"))
    if not full and len(rows) > 3:
        publications.add(f"[dim]{len(rows) - 3} older with --full[/]")


def _add_money(tree: Tree, chain: dict[str, Any], full: bool) -> None:
    """What the video earned and cost, per currency; sandbox money is named."""
    earned = totals(Money(row["net_minor"], row["currency"]) for row in chain["revenue"])
    lines = []
    for row in chain["revenue"]:
        net = Money(row["net_minor"], row["currency"])
        shown = row | {"net": net, "money": "live" if row["livemode"] else "sandbox"}
        lines.append(
            _line(shown, "platform", "source", "rule", "net", "items", "first_day", "last_day", "money")
        )
    _few(tree.add(f"revenue: {', '.join(map(str, earned.values())) or 'none is attributed'}"), lines, 3, full)
    spent = sum(row["cost_microusd"] for row in chain["costs"])
    lines = []
    for row in chain["costs"]:
        shown = row | {"cost": f"${row['cost_microusd'] / 1e6:,.6f}"}
        lines.append(_line(shown, "kind", "vendor", "account", "cost", "calls", "mode"))
    _few(tree.add(f"cost: ${spent / 1e6:,.6f}"), lines, 3, full)


def _set_on(publications: list[dict[str, Any]]) -> dict[str, str]:
    """SHA-256 of a picture -> where a post is shown by it now, in words."""
    return {
        extra["sha256"]: f"shown on {row['platform']}"
        if extra["done_at"]
        else f"refused by {row['platform']}"
        for row in publications
        for extra in row.get("extras") or []
    }


def _line(row: dict[str, Any], *names: str) -> str:
    shown = [(name, row.get(name)) for name in names]
    return "  ".join(f"[dim]{name}[/] {escape(str(value))}" for name, value in shown if value is not None)
