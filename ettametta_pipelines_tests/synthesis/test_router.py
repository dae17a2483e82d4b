"""The router: who makes a clip, and why, as a table of cases."""

import json
from dataclasses import replace

import pytest

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.budget import Purchase, claim, settle
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.synthesis.planning import Desk, budget_of, next_plan, open_desk
from ettametta_pipelines.synthesis.prices import ENGINES, Quote, load_engines, quote
from ettametta_pipelines.synthesis.requests import ClipRequest
from ettametta_pipelines.synthesis.router import AUTO, Limits, route

REQUEST = ClipRequest(
    "waves on rocks", 6.0, 1080, 1920, 30, 7, image_key="media/stills/a.jpg", image_sha256="a" * 64
)
PRICES = {"veo": 1_080_000, "siliconflow": 290_000, "ltx": None, "wan": None, "cinematic": 0}
QUOTES = {
    engine: Quote(engine, "m", REQUEST, price)
    if price is not None
    else Quote(engine, "m", REQUEST, code="no_gpu", why_not="there is no GPU here")
    for engine, price in PRICES.items()
}


def each(microusd: int) -> dict[str, int]:
    """The same left for every engine."""
    return dict.fromkeys(ENGINES, microusd)


RICH = Limits(frozenset(ENGINES), "Empire", each(5_000_000), 10_000_000, 0.5, 0)

# case, wanted, limits changed, fallback, engine, instead of, code, in the words
CASES = [
    ("the best that leaves the margin", AUTO, {}, True, "veo", None, "", "of 10.00 USD expected"),
    ("a dear one eats the margin", AUTO, {"expected_microusd": 700_000}, True, "siliconflow", "veo", "", "50% of"),
    ("the margin is inclusive", AUTO, {"expected_microusd": 2_160_000}, True, "veo", None, "", "1.08 USD"),
    ("nobody knows the revenue", AUTO, {"expected_microusd": None}, True, "cinematic", "veo", "", "no revenue"),
    ("so much may be spent blindly", AUTO, {"expected_microusd": None, "unknown_microusd": 300_000}, True,
     "siliconflow", "veo", "", "costs 0.29 USD"),
    ("a niche that loses money", AUTO, {"expected_microusd": -5}, True, "cinematic", "veo", "", "costs nothing"),
    ("the tier lacks it", AUTO, {"engines": frozenset({"siliconflow", "cinematic"})}, True, "siliconflow", "veo", "",
     "Empire does not hold it"),
    ("the day is nearly spent", AUTO, {"left_microusd": each(300_000)}, True, "siliconflow", "veo", "",
     "left to spend"),
    ("the live day is spent, the sandbox's is not", AUTO, {"left_microusd": each(5_000_000) | {"veo": 0}}, True,
     "siliconflow", "veo", "", "0.00 USD left to spend"),
    ("the day is overspent", AUTO, {"left_microusd": each(-1)}, True, None, None, "over_daily_cap", "0.00 USD left"),
    ("a person named it, margin or not", "veo", {"expected_microusd": None}, True, "veo", None, "", "costs 1.08 USD"),
    ("named, but the tier lacks it", "veo", {"engines": frozenset({"cinematic"})}, True, "cinematic", "veo", "", ""),
    ("named, and nothing else is wanted", "veo", {"engines": frozenset({"cinematic"})}, False, None, None,
     "tier_lacks_engine", "does not hold it"),
    ("named, over the cap, and nothing else", "veo", {"left_microusd": each(5)}, False, None, None,
     "over_daily_cap", ""),
    ("named without its machine", "ltx", {}, True, "cinematic", "ltx", "", "no GPU"),
    ("no fallback from the first", AUTO, {"expected_microusd": 1}, False, None, None, "margin_too_small", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "changed", "fallback", "engine", "instead_of", "code", "words"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_the_engine_of_a_brief(
    wanted: str,
    changed: dict[str, object],
    fallback: bool,
    engine: str | None,
    instead_of: str | None,
    code: str,
    words: str,
) -> None:
    decision = route(wanted, ENGINES, QUOTES, replace(RICH, **changed), fallback=fallback)
    assert (decision.chosen.engine if decision.chosen else None) == engine
    assert decision.instead_of == instead_of
    assert decision.code == code
    assert words in decision.why


def test_only_what_the_chain_declares_may_follow_and_only_where_that_is_allowed() -> None:
    assert route(AUTO, ("veo", "cinematic"), QUOTES, RICH).next_engines == ("cinematic",)
    assert route(AUTO, ENGINES, QUOTES, RICH, fallback=False).next_engines == ()
    assert route("veo", ("siliconflow", "cinematic"), QUOTES, RICH).next_engines == ()


def test_an_engine_that_was_passed_over_says_why() -> None:
    decision = route(AUTO, ENGINES, QUOTES, replace(RICH, expected_microusd=0))
    assert [(seen.engine, seen.code) for seen in decision.considered] == [
        ("veo", "margin_too_small"), ("siliconflow", "margin_too_small"), ("ltx", "no_gpu"), ("wan", "no_gpu"),
        ("cinematic", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("engine", "model", "changed", "expected"),
    [
        ("veo", "gemini-omni-1.2-flash", {}, (1080, 1920, 6.0, 24, 1_080_000)),
        ("veo", "veo-3.1-generate-001", {"seconds": 7.0}, (720, 1280, 8.0, 24, 3_200_000)),
        ("siliconflow", "Wan-AI/Wan2.2-T2V-A14B", {}, (720, 1280, 5.0, 16, 290_000)),
        ("ltx", "ltx-2-distilled", {"width": 1920, "height": 1080}, (768, 512, 5.0, 24, 0)),
        ("cinematic", "cinematic-1", {"seconds": 7.0}, (1080, 1920, 8.0, 30, 0)),
    ],
)
def test_a_quote_brings_the_request_to_what_the_model_makes(
    engine: str, model: str, changed: dict[str, object], expected: tuple[float, ...]
) -> None:
    terms = load_engines().engines[engine].models[model]  # type: ignore[index]
    made = quote(engine, model, terms, replace(REQUEST, **changed))  # type: ignore[arg-type]
    shaped = made.request
    assert (shaped.width, shaped.height, shaped.seconds, shaped.fps, made.microusd) == expected


def test_what_a_model_cannot_make_is_no_offer() -> None:
    models = load_engines().engines
    bare = replace(REQUEST, image_key=None, image_sha256=None)
    square = replace(REQUEST, width=900, height=900)
    assert quote("cinematic", "c", models["cinematic"].models["cinematic-1"], bare).code == "no_still"
    assert quote("veo", "o", models["veo"].models["gemini-omni-1.2-flash"], square).code == "shape_unknown"
    assert quote("veo", "veo-9", None, bare).code == "price_unknown"


def test_a_still_is_left_out_of_the_name_of_a_clip_that_does_not_start_from_one() -> None:
    terms = load_engines().engines["siliconflow"].models["Wan-AI/Wan2.2-T2V-A14B"]
    assert quote("siliconflow", "m", terms, REQUEST).request.image_sha256 is None


def test_a_chain_out_of_order_is_refused_by_name(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from ettametta_pipelines.synthesis.prices import ENGINES_FILE

    file = tmp_path / "engines.yaml"
    file.write_text(
        ENGINES_FILE.read_text().replace("[siliconflow, ltx, wan, cinematic]", "[cinematic, ltx]")
    )
    with pytest.raises(PermanentError, match="chain clean must keep the order"):
        load_engines(file)


@pytest.mark.parametrize(("expected", "engine"), [(2_000_000, "siliconflow"), (None, "cinematic")])
def test_an_engine_that_follows_a_failed_one_is_judged_by_the_margin_of_the_plan(
    expected: int | None, engine: str
) -> None:
    table = load_engines()
    models = {str(name): known.model for name, known in table.engines.items()}
    gpu = dict.fromkeys(("ltx", "wan"), "no GPU is configured")
    desk = Desk(
        table, models, dict.fromkeys(models, "live"), gpu, frozenset(ENGINES), "Empire", {"live": 5_000_000}
    )
    row = {
        "engine": "veo", "instead_of": None, "next_engines": ["siliconflow", "ltx", "wan", "cinematic"],
        "wanted_json": json.dumps({"request": REQUEST.as_json(), "still": None, "expected_microusd": expected}),
    }  # fmt: skip
    follower = next_plan(row, "clip_failed", desk)
    assert follower is not None
    assert (follower["engine"], follower["instead_of"]) == (engine, "veo")


def test_each_engine_is_paid_from_the_books_of_its_own_mode(
    settings_env: Settings, database: StateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Veo of the sandbox beside a live SiliconFlow: play money of one buys nothing of the other."""
    monkeypatch.setenv("SILICON_FLOW_API_KEY", "sk-live")
    get_settings.cache_clear()
    live = budget_of(get_settings(), database, "agency", "live")
    bought = Purchase(4_900_000, "siliconflow", "m", "clip", "s")
    settle(database, claim(database, live, bought, utc_now), 4_900_000)
    desk = open_desk(get_settings(), database, "agency", clock=utc_now, gpu=None, expected={"n": 10_000_000})
    assert desk.left == {"sandbox": 5_000_000, "live": 100_000, "local": 5_000_000}
    named = desk.decide(REQUEST, "n", None, "siliconflow", fallback=False)
    assert (named.chosen, named.code) == (None, "over_daily_cap")
    chosen = desk.decide(REQUEST, "n", None, AUTO, fallback=True).chosen
    assert chosen is not None
    assert chosen.engine == "veo"
    assert (desk.left["live"], desk.left["sandbox"] < 5_000_000) == (100_000, True)
