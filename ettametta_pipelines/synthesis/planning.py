"""From briefs to planned clips: a request with its still, quotes of every engine, and the router's decision, as rows.

Nothing is spent here. A brief that was planned before keeps its request, so that the clip it names is found again.
Called by `assets.py`; who decides is `router.py`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.billing.tiers import Feature
from ettametta_pipelines.clock import Clock, business_day_of
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.previews import cell
from ettametta_pipelines.state import budget as budgets
from ettametta_pipelines.state import clip_orders as orders
from ettametta_pipelines.state.budget import Budget
from ettametta_pipelines.synthesis.making import Ask
from ettametta_pipelines.synthesis.prices import ENGINES, EngineTable, Quote, load_engines, quote
from ettametta_pipelines.synthesis.requests import ClipRequest
from ettametta_pipelines.synthesis.router import AUTO, Decision, Limits, route
from ettametta_pipelines.synthesis.stills import Still

if TYPE_CHECKING:
    from ettametta_pipelines.settings import Settings
    from ettametta_pipelines.state.session import StateDatabase

Row = dict[str, Any]

FEATURES: Mapping[str, Feature | None] = {
    "veo": Feature.ENGINE_VEO,
    "siliconflow": Feature.ENGINE_SILICONFLOW,
    "ltx": Feature.ENGINE_GPU,
    "wan": Feature.ENGINE_GPU,
    "cinematic": None,
}
VENDOR_OF_BACKEND = {"interactions": "gemini", "vertex": "vertex"}
GPU_ENGINES = frozenset({"ltx", "wan"})
SIZES = {"9x16": (1080, 1920), "16x9": (1920, 1080), "1x1": (1080, 1080)}


@dataclass
class Desk:
    """What plans are made with. `expected` is niche -> revenue a clip is expected to bring, in millionths of a dollar.

    `left` is what is left of the account's day by mode of the vendor, sandbox and live having books of their own; it
    shrinks with every clip that is planned.
    """

    table: EngineTable
    models: Mapping[str, str]
    modes: Mapping[str, str]
    not_set_up: Mapping[str, str]
    engines: frozenset[str]
    tier: str
    left: dict[str, int]
    expected: Mapping[str, int | None] = field(default_factory=dict)

    def quotes(self, request: ClipRequest) -> dict[str, Quote]:
        """The quote of every engine; of one that is not set up here, why."""
        found = {}
        for engine in self.table.engines:
            model = self.models[engine]
            why = self.not_set_up.get(engine)
            found[str(engine)] = (
                Quote(engine, model, request, code="not_set_up", why_not=why)
                if why
                else quote(engine, model, self.table.engines[engine].models.get(model), request)
            )
        return found

    def decide(
        self, request: ClipRequest, niche: str, recipe: str | None, wanted: str, *, fallback: bool
    ) -> Decision:
        """The router's decision; its price is taken from what is left to spend."""
        chain = self.table.chain(recipe)
        return self.route(wanted, chain, request, self.expected.get(niche), fallback=fallback)

    def route(
        self,
        wanted: str,
        chain: Sequence[str],
        request: ClipRequest,
        expected_microusd: int | None,
        *,
        fallback: bool = True,
    ) -> Decision:
        """The router's decision along a chain; its price is taken from what is left of its engine's money."""
        left = {engine: self.left[mode] for engine, mode in self.modes.items()}
        limits = Limits(
            self.engines, self.tier, left, expected_microusd, self.table.spend_share,
            self.table.unknown_revenue_microusd,
        )  # fmt: skip
        decision = route(wanted, chain, self.quotes(request), limits, fallback=fallback)
        if decision.chosen is not None:
            self.left[self.modes[decision.chosen.engine]] -= decision.chosen.microusd or 0
        return decision


@dataclass(frozen=True)
class Wish:
    """One clip that is wanted, whoever makes it. `identity` names it within its day and niche."""

    identity: str
    origin: str
    prompt: str
    title: str
    account: str
    recipe: str | None
    seconds: float
    format: str
    seed: int
    engine: str = AUTO
    fallback: bool = True
    negative_prompt: str = ""
    brief_id: str | None = None
    keywords: tuple[str, ...] = ()
    again: bool = False


def open_desk(
    settings: "Settings",
    db: "StateDatabase",
    account: str,
    *,
    clock: Clock,
    gpu: str | None,
    expected: Mapping[str, int | None],
) -> Desk:
    """The desk of these settings for one account. `gpu` names where GPU jobs are run, None where nowhere."""
    from ettametta_pipelines.billing.entitlements import standing
    from ettametta_pipelines.billing.tiers import open_plans

    table = load_engines(settings.engines_file)
    named = {
        "veo": settings.veo_model,
        "siliconflow": settings.silicon_flow_model,
        "ltx": settings.ltx_model,
        "wan": settings.wan_model,
    }
    models = {str(engine): named.get(engine) or known.model for engine, known in table.engines.items()}
    tier = standing(db, open_plans(settings), account).tier
    modes = {engine: mode_of(settings, table, engine, models[engine]) for engine in models}
    not_set_up = {} if gpu else dict.fromkeys(sorted(GPU_ENGINES), "no GPU is configured")
    left = {
        mode: left_to_spend(settings, db, budget_of(settings, db, account, mode), clock)
        for mode in dict.fromkeys(modes.values())
    }
    return Desk(
        table,
        models,
        modes,
        not_set_up,
        frozenset(name for name in ENGINES if FEATURES[name] is None or FEATURES[name] in tier.features),
        tier.title,
        left,
        expected,
    )


def mode_of(settings: "Settings", table: EngineTable, engine: str, model: str) -> str:
    """Sandbox or live for an engine behind a vendor; `local` for one that runs on machines of our own."""
    vendor = "siliconflow" if engine == "siliconflow" else ""
    if engine == "veo":
        terms = table.engines["veo"].models.get(model)
        vendor = VENDOR_OF_BACKEND[(terms.backend if terms else None) or "interactions"]
    return settings.endpoint(vendor).mode if vendor else "local"


def budget_of(settings: "Settings", db: "StateDatabase", account: str, mode: str) -> Budget:
    """The account's daily money for answers of models, which clips are paid from too, under its cap of the month."""
    from ettametta_pipelines.billing.spend_caps import cap_of

    return Budget(
        mode,
        account,
        settings.model_budget_microusd(account),
        settings.model_budget_microusd(),
        settings.timezone,
        cap_of(settings, db, account),
    )


def left_to_spend(settings: "Settings", db: "StateDatabase", budget: Budget, clock: Clock) -> int:
    """The least of what the account and everybody together may still spend today, and the account this month."""
    day = business_day_of(clock(), settings.timezone)
    known = budgets.spending(db, budget.mode, day)
    month = budgets.month_spending(db, budget.mode, budget.account, day)
    limits = [
        (known.get(budget.account), budget.account_limit_microusd),
        (known.get(budgets.EVERYBODY), budget.overall_limit_microusd),
        (month, budget.cap.microusd if budget.cap else None),
    ]
    return min(
        limit - (row.spent_microusd + row.reserved_microusd if row else 0)
        for row, limit in limits
        if limit is not None
    )


def decide_found(db: "StateDatabase", found: Mapping[str, str]) -> list[str]:
    """Carry out what a person found at vendors about parked orders; a line for each. `none` means no order there."""
    lines = []
    for request_key, operation in found.items():
        standing = orders.decide_parked(db, request_key, None if operation == "none" else operation)
        lines.append(f"- `{cell(request_key)}` is {standing.state} by a person's word")
    return lines


def seed_of(*parts: str) -> int:
    """A seed that depends on nothing but what it is for."""
    return int.from_bytes(hashlib.sha256("\x1f".join(parts).encode()).digest()[:4])


def wish_of_brief(
    brief: Mapping[str, Any],
    account: str,
    *,
    seconds: float,
    format: str,
    engine: str,
    fallback: bool,
    again: bool,
) -> Wish:
    """The clip a brief asks for. Account and brief give the seed: two accounts never get the same clip."""
    titles = brief["title_candidates"] or []
    return Wish(
        brief["brief_id"], "brief", brief["prompt"], titles[0] if titles else brief["hook_text"], account,
        brief["recipe"], seconds, format, seed_of(account, brief["brief_id"]), engine, fallback,
        brief_id=brief["brief_id"], keywords=tuple(brief["broll_keywords"]), again=again,
    )  # fmt: skip


def plan(
    wishes: Sequence[Wish],
    *,
    desk: Desk,
    day: date,
    niche: str,
    still_for: Callable[[Wish], tuple[Still | None, Sequence[PipelineError]]],
    earlier: Sequence[Row],
    clock: Clock,
) -> list[Row]:
    """Rows of `synthesis_plans`, one a wish, in their order."""
    known = {(row["plan_id"], row["account"]): row for row in earlier}
    rows = []
    for wish in wishes:
        before = known.get((wish.identity, wish.account))
        kept = json.loads(before["wanted_json"]) if before and not wish.again else None
        trouble: Sequence[PipelineError] = ()
        if kept is not None and kept["request"]["prompt"] == wish.prompt:
            still = Still(**kept["still"]) if kept["still"] else None
        else:
            still, trouble = still_for(wish)
        width, height = SIZES[wish.format]
        request = ClipRequest(
            wish.prompt, wish.seconds, width, height, 30, wish.seed, wish.negative_prompt,
            still.object_key if still else None, still.sha256 if still else None,
        )  # fmt: skip
        decision = desk.decide(request, niche, wish.recipe, wish.engine, fallback=wish.fallback)
        rows.append(_row(wish, request, still, trouble, decision, desk, day, niche, clock))
    return rows


def _row(
    wish: Wish,
    request: ClipRequest,
    still: Still | None,
    trouble: Sequence[PipelineError],
    decision: Decision,
    desk: Desk,
    day: date,
    niche: str,
    clock: Clock,
) -> Row:
    why = decision.why + "".join(f" No still: {error.message}" for error in trouble if still is None)
    # Kept, so that an engine that follows a failed one is judged by the same margin.
    wanted = {
        "request": request.as_json(),
        "still": still.as_dict() if still else None,
        "expected_microusd": desk.expected.get(niche),
    }
    return {
        "day": day, "niche": niche, "plan_id": wish.identity, "origin": wish.origin, "brief_id": wish.brief_id,
        "account": wish.account, "title": wish.title, "prompt": wish.prompt, "recipe": wish.recipe,
        "wanted_json": json.dumps(wanted),
        "considered_json": json.dumps([asdict(seen) for seen in decision.considered]),
        "still_key": still.object_key if still else None, "still_origin": still.origin if still else None,
        "keywords": list(wish.keywords), "ask_again": wish.again, "planned_at": clock(),
    } | decided(decision, desk, why)  # fmt: skip


def decided(decision: Decision, desk: Desk, why: str) -> Row:
    """Columns of a decision."""
    chosen = decision.chosen
    return {
        "status": "planned" if chosen else "not_planned",
        "reason_code": decision.code or None,
        "why": why,
        "engine": chosen.engine if chosen else None,
        "model": chosen.model if chosen else None,
        "mode": desk.modes[chosen.engine] if chosen else None,
        "request_json": json.dumps(chosen.request.as_json()) if chosen else None,
        "quote_microusd": chosen.microusd if chosen else None,
        "quote_usd": (chosen.microusd or 0) / 1e6 if chosen else None,
        "instead_of": decision.instead_of,
        "next_engines": list(decision.next_engines),
    }


def next_plan(row: Row, why: str, desk: Desk) -> Row | None:
    """The same plan by the next engine of its chain that may be taken; None where there is none."""
    following = [engine for engine in row["next_engines"] or [] if engine in desk.table.engines]
    if not following:
        return None
    wanted = json.loads(row["wanted_json"])
    request = ClipRequest(**wanted["request"])
    decision = desk.route(AUTO, following, request, wanted.get("expected_microusd"))
    if decision.chosen is None:
        return None
    said = f"{row['engine']} failed ({why}); {decision.why}"
    return row | decided(decision, desk, said) | {"instead_of": row["instead_of"] or row["engine"]}


def still_ordered(db: "StateDatabase", earlier: Sequence[Row], partition: str) -> list[Row]:
    """Earlier plans whose clip is ordered and has no end: they stay as they are, whatever is wanted now."""
    waiting = (*orders.UNFINISHED, orders.PARKED)
    known = [(row, orders.find_order(db, ask_of(row, partition).key)) for row in earlier if row["engine"]]
    return [row for row, order in known if order is not None and order.state in waiting]


def ask_of(row: Mapping[str, Any], partition: str) -> Ask:
    """The planned clip of a row, as the makers take it."""
    return Ask(
        row["plan_id"], row["engine"], row["model"], row["mode"], ClipRequest(**json.loads(row["request_json"])),
        row["quote_microusd"], row["account"], partition, bool(row["ask_again"]),
    )  # fmt: skip
