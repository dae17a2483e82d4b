"""What the assets do with rows: briefs to wishes, wishes to stills, planned rows to clips, clips to uploads.

The makers, the router and the books are beside; here they are only brought together for a partition.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.discovery.niches import load_niches
from ettametta_pipelines.failures import PermanentError, PipelineError
from ettametta_pipelines.scoring.contracts import CREATIVE_BRIEFS
from ettametta_pipelines.synthesis import making, planning, stills, waiting
from ettametta_pipelines.synthesis.clip_rows import TO_DO, stated, with_outcome
from ettametta_pipelines.synthesis.engines.diffusion import open_clip_runner, runner_name
from ettametta_pipelines.synthesis.engines.remote import RemoteEngine
from ettametta_pipelines.synthesis.making import Ask, Outcome, Unmade, Workshop
from ettametta_pipelines.synthesis.planning import VENDOR_OF_BACKEND, Wish, seed_of
from ettametta_pipelines.synthesis.prices import load_engines
from ettametta_pipelines.synthesis.requests import ClipResult
from ettametta_pipelines.synthesis.stills import Still

if TYPE_CHECKING:
    import pandas as pd

    from ettametta_pipelines.orchestration.resources import LakeResource, PexelsResource
    from ettametta_pipelines.settings import Settings
    from ettametta_pipelines.storage.objects import ObjectStore

Row = dict[str, Any]
Config = Mapping[str, Any]

REQUEST_TIMEOUT_S = 120.0
# The sandbox's operations are finished after a few looks.
POLL_S = {"sandbox": 0.05, "live": 10.0}
NEWEST_SOURCES = 5
STILLS: Mapping[str, tuple[str, ...]] = {
    "footage_then_pexels": ("footage", "pexels"),
    "footage": ("footage",),
    "pexels": ("pexels",),
    "none": (),
}
_FOOTAGE = """
select * from source_media where account = $account and niche = $niche and verdict = 'accepted'
and rights in ('owned', 'licensed', 'cc_by') order by accepted_at desc, source_id limit $newest
"""


def wishes_of(config: Config, creative_briefs: "pd.DataFrame", day: str) -> list[Wish]:
    """The clips that are wanted: that of the prompt, or those of the best briefs."""
    if config["prompt"].strip():
        return [_wish_of_prompt(config, day)]
    best = creative_briefs.sort_values("score", ascending=False).head(config["top"])
    briefs = CREATIVE_BRIEFS.to_arrow(best).to_pylist()
    same = {"seconds": config["seconds"], "format": config["format"], "fallback": config["fallback"]}
    return [
        planning.wish_of_brief(
            brief, config["account"], engine=config["engine"], again=config["ask_again"], **same
        )
        for brief in briefs
    ]


def _wish_of_prompt(config: Config, day: str) -> Wish:
    prompt = " ".join(config["prompt"].split())
    seed = config["seed"] if config["seed"] is not None else seed_of(config["account"], day, prompt)
    title = config["title"] or prompt[:60].rpartition(" ")[0] or prompt[:60]
    return Wish(
        f"prompt-{seed_of(prompt, str(seed), config['format'], str(config['seconds']), config['engine']):08x}",
        "prompt", prompt, title, config["account"], None, config["seconds"], config["format"], seed,
        config["engine"], config["fallback"], config["negative_prompt"], keywords=tuple(prompt.split()[:3]),
        again=config["ask_again"],
    )  # fmt: skip


def still_finder(
    config: Config,
    store: "ObjectStore",
    lake: "LakeResource",
    pexels: "PexelsResource",
    settings: "Settings",
    niche: str,
) -> Callable[[Wish], tuple[Still | None, Sequence[PipelineError]]]:
    """Finds the still of a wish: the one that is named, else the account's footage and Pexels in the wished order."""

    def footage(wish: Wish) -> Still:
        with lake.open() as opened:
            rows = opened.rows(_FOOTAGE, {"account": wish.account, "niche": niche, "newest": NEWEST_SOURCES})
        if not rows:
            raise PermanentError(
                f"{wish.account} has no footage of its own in {niche}.",
                code="no_footage",
                remedy="Upload some.",
            )
        source = rows[wish.seed % len(rows)]
        return stills.still_of_footage(store, source, settings.home_dir / "scratch")

    def stock(wish: Wish) -> Still:
        upright = wish.format == "9x16"
        return stills.still_of_pexels(store, pexels.client(), wish.keywords, upright=upright, seed=wish.seed)

    sources = {"footage": footage, "pexels": stock}

    def find(wish: Wish) -> tuple[Still | None, Sequence[PipelineError]]:
        if config["still"]:
            return stills.named_still(store, config["still"], config["still_right"]), ()
        return stills.first_still(
            [lambda name=name: sources[name](wish) for name in STILLS[config["stills"]]]
        )

    return find


def make_rows(
    workshop: Workshop, settings: "Settings", rows: list[Row], engines: Sequence[str], partition: str
) -> list[Row]:
    """Make the rows that wait for these engines; those whose engine failed are planned anew with the next one."""
    done: list[Row] = []
    asks = {
        (row["plan_id"], row["account"]): planning.ask_of(row, partition)
        for row in rows
        if row["status"] == TO_DO and row["engine"] in engines
    }
    outcomes = _outcomes(workshop, settings, list(asks.values()))
    for row in rows:
        ask = asks.get((row["plan_id"], row["account"]))
        if ask is None:
            done.append(row)
            continue
        outcome = outcomes[(ask.engine, ask.model, ask.account)][ask.plan_id]
        follower = _follower(workshop, settings, row, outcome)
        done.append(follower or with_outcome(row, ask, outcome))
    return done


def _outcomes(
    workshop: Workshop, settings: "Settings", asks: Sequence[Ask]
) -> dict[tuple[str, str, str], dict[str, Outcome]]:
    """What became of asks, by engine, model and account, then by plan."""
    groups: dict[tuple[str, str, str], list[Ask]] = {}
    for ask in asks:
        groups.setdefault((ask.engine, ask.model, ask.account), []).append(ask)
    found: dict[tuple[str, str, str], dict[str, Outcome]] = {}
    for (engine, model, account), group in groups.items():
        try:
            if engine == "cinematic":
                made = making.make_cinematic(workshop, group)
            elif engine in planning.GPU_ENGINES:
                made = _made_on_gpu(workshop, settings, group)
            else:
                made = making.make_remote(workshop, open_engine(settings, engine, model), group)
        except PipelineError as error:
            made = {
                ask.plan_id: making.unmade(error, is_ordered=making.is_ordered(workshop, ask))
                for ask in group
            }
        found[engine, model, account] = made
    return found


def _made_on_gpu(workshop: Workshop, settings: "Settings", group: Sequence[Ask]) -> "dict[str, Outcome]":
    """Clips of one model; while one of them has no end, the partition is marked as waiting."""
    where = f"{group[0].engine}-{group[0].model}", group[0].account, group[0].partition
    waiting.mark(workshop.store, *where)
    made = making.make_on_gpu(workshop, open_clip_runner(settings, workshop.store), group)
    if not any(isinstance(one, Unmade) and one.state == "pending" for one in made.values()):
        waiting.clear(workshop.store, *where)
    return made


def _follower(workshop: Workshop, settings: "Settings", row: Row, outcome: Outcome) -> Row | None:
    if not isinstance(outcome, Unmade) or not outcome.allows_another_engine or not row["next_engines"]:
        return None
    desk = planning.open_desk(
        settings, workshop.db, row["account"], clock=workshop.clock, gpu=runner_name(settings), expected={}
    )
    follower = planning.next_plan(row, outcome.code, desk)
    if follower is not None:
        workshop.say(f"{row['title']}: {follower['why']}")
        follower["status"] = TO_DO
    return follower


def open_engine(settings: "Settings", engine: str, model: str) -> RemoteEngine:
    """The engine of a model behind a vendor. Raises PermanentError `price_unknown` for one that has none."""
    table = load_engines(settings.engines_file)
    terms = table.engines[engine].models.get(model)  # type: ignore[index]
    if terms is None:
        raise PermanentError(
            f"The price of {model} is not known.",
            code="price_unknown",
            remedy="Add it to the engines file, or name a model that is there.",
        )
    vendor = "siliconflow" if engine == "siliconflow" else VENDOR_OF_BACKEND[terms.backend or "interactions"]
    endpoint = replace(settings.endpoint(vendor), timeout_s=REQUEST_TIMEOUT_S)
    poll_s = POLL_S[endpoint.mode]
    if engine == "siliconflow":
        from ettametta_pipelines.synthesis.engines.siliconflow import SiliconFlowEngine
        from ettametta_pipelines.vendors.siliconflow import SiliconFlowClient

        return SiliconFlowEngine(SiliconFlowClient(endpoint), model, terms, poll_s=poll_s)
    from ettametta_pipelines.synthesis.engines.veo import VeoEngine
    from ettametta_pipelines.vendors.google_video import GoogleVideoClient

    client = GoogleVideoClient(
        endpoint, model, terms.backend or "interactions", location=settings.vertex_location
    )
    return VeoEngine(client, terms, poll_s=poll_s)


def hand_in_rows(workshop: Workshop, settings: "Settings", rows: Sequence[Row]) -> int:
    """Hand in the clips of rows that are not yet; fills in source id and upload key. Returns how many were new."""
    niches = sorted(load_niches(settings.niches_file))
    publishes_live = any(settings.endpoint(name).mode == "live" for name in ("google", "tiktok"))
    fresh = 0
    for row in rows:
        if row["status"] != "made" or row["source_id"]:
            continue
        said = stated(row, publishes_live=publishes_live)
        made = ClipResult(
            row["engine"], row["model"], row["request_key"], row["object_key"], row["sha256"], row["seed"],
            row["width"], row["height"], row["fps"], row["frames"], row["has_audio"], row["cost_microusd"],
        )  # fmt: skip
        row["source_id"], row["upload_key"], is_new = making.hand_in(
            workshop,
            made,
            account=row["account"],
            niche=row["niche"],
            niches=niches,
            day=row["day"],
            stated=said,
        )
        row["rights"] = said["rights"] or "undeclared"
        fresh += is_new
    return fresh
