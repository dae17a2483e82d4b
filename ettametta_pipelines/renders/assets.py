"""Assets of the renders room: the three renditions of a source video, any subset from one decode, and thumbnails.

Thin: the work is `library.py`'s and `thumbnails.py`'s.
"""

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd
from pydantic import Field

from ettametta_pipelines.media_links import media_url
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.related import POSTS, SOURCE, related_pages
from ettametta_pipelines.orchestration.resources import PexelsResource, StateResource, StoreResource
from ettametta_pipelines.orchestration.run_titles import name_run, title_given
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.partitions import SOURCE_VIDEO
from ettametta_pipelines.renders.contracts import FORMAT_NAMES, RENDITIONS, THUMBNAILS, rendition_asset
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.storage.contracts import plain_rows
from ettametta_pipelines.storage.tables import table_metadata

if TYPE_CHECKING:
    from ettametta_pipelines.renders.broll_clips import BrollOrder, Shelf
    from ettametta_pipelines.renders.ffmpeg import RenderProgress
    from ettametta_pipelines.renders.library import Rendition, RenditionOrder
    from ettametta_pipelines.renders.quality import Finding
    from ettametta_pipelines.renders.recipe import Recipe
    from ettametta_pipelines.renders.voiceover import VoiceWish

# Two runs of ten keep two processors busy; a start costs as much as the pictures of a short video.
THUMBNAILS_PER_RUN = 10
TABLES = dict(zip(FORMAT_NAMES, RENDITIONS, strict=True))

CHECKS = {
    "readable": "The finished file is probed like an upload: H.264 video in 8 bits that plays to its end.",
    "exact_size": "Exactly the format's width and height, square pixels.",
    "duration_matches": "As long as the recipe makes the source, within 2 percent.",
    "sound_present": "Sound as long as the picture when the source or a voice-over has sound, else none.",
    "sound_in_sync": "Sound and picture start and end together, within 40 ms and a frame.",
    "subject_in_frame": "The subject, where one is known, is cut off in at most 20 percent of frames it is seen in.",
    "no_black_stretch": "No black picture for more than half a second where the source is not black.",
    "no_frozen_stretch": "No still picture for more than half a second where the source moves.",
    "no_new_silence": "No silence for more than half a second where the source sounds or a voice-over speaks.",
    "loudness_on_target": "-14 LUFS within 1, or as near as 20 dB of gain and the peak limit let a quiet source come.",
    "true_peak_below_ceiling": "No peak above -1 dBTP once the sound is decoded.",
    "encoding_faithful": "Frames looked at are those that were encoded: SSIM of 0.975 (grain: 0.85), right colours.",
    "captions_in_zone_and_on_time": "Captions looked at: letters seen, inside what platforms keep free, on time.",
    "distance_from_source": "Never fails: says how far the picture is from the source's.",
}

SHAPES = {
    "9x16": "upright, 1080x1920, for Shorts, TikTok and Reels",
    "16x9": "wide, 1920x1080, for YouTube and the web",
    "1x1": "square, 1080x1080, for feeds",
}

DESCRIPTION = """
The finished {shape}. Made by one recipe (mirror, zoom, colour, grayscale, speed ramp, jitter, glitch, letterbox,
vignette, grain) together with the other formats of the same run, from one decode; sound is brought towards -14 LUFS
and follows a speed ramp. A ramped rendition is a little longer or shorter than its source.

Where the recipe has cutaways, other footage is shown at cuts while the sound goes on: clips under
`library/{{account}}/` with a right declared beside them, else stock footage found by the upload's `broll_keywords` or
its title. What was chosen stays chosen; a cutaway for which no clip could be had is left out, named under *broll*, and
tried again by the next run. Credits go into the posts by themselves.

Captions the upload came with are drawn where the recipe asks for them, or where `captions` names a style.

The upload's `voice_over` is spoken where the recipe has a voice-over (*narrated* has), or the text given in the
launchpad: by ElevenLabs where ELEVENLABS_API_KEY is set, else by a local voice, which *voice_fallback* then names. The
video's own sound goes down meanwhile, and where no captions came along the spoken words are drawn. Such a rendition is
declared as synthetic media when it is posted.

What exists under the same render key is not made again (*rendered*: false). Choose another `recipe` or `seed` in the
launchpad to get another version beside it. A source counts once in its account's month, whatever is made of it.

**If it fails:** *decode_failed* means the source is damaged: export it again and upload it. *quality_check_failed*
names the check that failed: see its sentence, numbers and frame, compare with the source at that time, then try
another recipe. *disk_full*, *out_of_memory* and *ffmpeg_killed* are the machine's and are tried again by themselves.
*unknown_recipe* names the recipes there are, *caption_glyphs_missing* the caption no letter of which the caption font
has. *video_too_long* says what the chosen platform takes, *voice_over_too_long* how many words fit,
*elevenlabs_quota_exceeded* that credits are used up; after *voice_outcome_unknown* set `remake_voice` once ElevenLabs'
history has been looked into. *video_limit_reached* says how many videos the account's tier gives, when its month ends
and how to upgrade (*account_entitlements* shows all accounts). *broll_missing* and *pexels_...* end a render only where
the recipe says so. Nothing is stored unless every check passed.
"""


class RenditionConfig(dg.Config):
    """How a source is rendered. Everything has a default."""

    recipe: str | None = Field(
        default=None,
        description="Preset: cinematic, clean, narrated, noir, punchy, restless, story, vhs or vintage. "
        "Empty takes the uploader's wish, else cinematic.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**31,
        description="Another seed gives other grain, sway, glitches and swells of speed. "
        "Empty derives it from the source.",
    )
    platform: str | None = Field(
        default=None,
        description="Make only what this platform takes, and nothing where the video is too long for it: "
        "facebook_feed, facebook_reels, instagram_feed, instagram_reels, tiktok, youtube or youtube_shorts. "
        "Empty makes what is selected.",
    )
    captions: str | None = Field(
        default=None,
        description=(
            "Draw the source's captions in this style: plain, bold_outline or boxed; none draws none. Empty does as "
            "the recipe says."
        ),
    )
    broll: str | None = Field(
        default=None,
        description=(
            "Cut away to other footage: library (the account's own), pexels (stock) or any; none does not. Empty does "
            "as the recipe says."
        ),
    )
    broll_keywords: list[str] = Field(
        default=[],
        description="What that footage shall show. Empty takes the upload's words, else its title's.",
    )
    voice_over: str | None = Field(
        default=None,
        description="Text to be spoken over the video; none speaks nothing. Empty speaks the upload's own text where "
        "the recipe has a voice-over.",
    )
    encoder: str | None = Field(
        default=None,
        description="Encoder of the video: x264, nvenc, qsv or vaapi; auto takes the machine's hardware where it "
        "works. Empty takes ETTAMETTA_ENCODER.",
    )
    language: str | None = Field(
        default=None,
        description="Language of the spoken text, such as en or pt-BR. Empty takes the upload's, else the niche's.",
    )
    remake_voice: bool = Field(
        default=False,
        description="Have a voice-over made once more although an earlier request's answer was lost; that one may have "
        "been charged too.",
    )


def _rendition_out(name: str) -> dg.AssetOut:
    return dg.AssetOut(
        key=rendition_asset(name),
        description=DESCRIPTION.format(shape=SHAPES[name]),
        group_name="renders",
        owners=["team:renders"],
        kinds={"ffmpeg", "mp4"},
        metadata=table_metadata(TABLES[name]),
        io_manager_key="tables",
        is_required=False,
    )


@dg.multi_asset(
    name="renditions",
    outs={rendition_asset(name): _rendition_out(name) for name in FORMAT_NAMES},
    check_specs=[
        dg.AssetCheckSpec(check, asset=rendition_asset(name), blocking=True, description=meaning)
        for name in FORMAT_NAMES
        for check, meaning in CHECKS.items()
    ],
    partitions_def=SOURCE_VIDEO,
    can_subset=True,
    pool="renders",
)
def renditions(
    context: dg.AssetExecutionContext,
    config: RenditionConfig,
    store: StoreResource,
    pexels: PexelsResource,
    state: StateResource,
    source_media: pd.DataFrame,
    media_analysis: pd.DataFrame,
) -> Iterator[Any]:
    from ettametta_pipelines.billing.entitlements import allows
    from ettametta_pipelines.billing.reservations import consume_slot, reserved_slot
    from ettametta_pipelines.billing.spend_caps import open_wallet
    from ettametta_pipelines.billing.tiers import Feature, open_plans
    from ettametta_pipelines.renders.engine import QualityFailure
    from ettametta_pipelines.renders.library import obtain_renditions
    from ettametta_pipelines.renders.voiceover import open_studio

    wanted = [
        name for name in FORMAT_NAMES if dg.AssetKey(rendition_asset(name)) in context.selected_asset_keys
    ]
    with failure_policy(context):
        wanted = _for_platform(wanted, config.platform)
        name_run(context, plain_rows(source_media)[0])
        order = _order(source_media, media_analysis, config)
        scratch = get_settings().home_dir / "scratch"
        report = _progress_log(context, ", ".join(wanted))
        try:
            db, plans = state.open(), open_plans(get_settings())
            account = str(source_media.iloc[0]["account"])
            may_buy = allows(db, plans, account, Feature.STUDIO_VOICE)
            # Here and not where runs are launched: the UI, backfills and re-executions all come through here.
            with reserved_slot(db, plans, account, order.source_id, holder=context.run_id) as slot:
                made = obtain_renditions(
                    store.open(),
                    order,
                    wanted,
                    scratch=scratch,
                    studio=open_studio(
                        get_settings(),
                        store.open(),
                        may_buy=may_buy,
                        wallet=lambda: open_wallet(get_settings(), db, account, "live"),
                        source_id=order.source_id,
                        niche=str(source_media.iloc[0]["niche"]),
                    ),
                    shelves=_shelves(order, store, pexels),
                    progress=report,
                )
                consume_slot(db, plans, slot, made=any(rendition.rendered for rendition in made))
        except QualityFailure as failure:
            for name, findings in failure.findings.items():
                if not all(finding.passed for finding in findings):
                    yield from (
                        _check_result(name, finding, failure.frames.get((name, finding.name)))
                        for finding in findings
                    )
            raise
        for rendition in made:
            yield _materialization(rendition, order, store, title_given([source_media]))


def _order(
    source_media: pd.DataFrame, media_analysis: pd.DataFrame, config: RenditionConfig
) -> "RenditionOrder":
    """What to render, from the tables and the launchpad; refuses a source that was rejected."""
    from ettametta_pipelines.media.intake import require_accepted
    from ettametta_pipelines.renders.library import RenditionOrder
    from ettametta_pipelines.renders.recipe import (
        DEFAULT_RECIPE,
        load_preset,
        seed_for,
        with_broll,
        with_captions,
    )
    from ettametta_pipelines.renders.sound import Loudness

    source, analysis = plain_rows(source_media)[0], plain_rows(media_analysis)[0]
    require_accepted(source)
    recipe = load_preset(config.recipe or source["recipe"] or DEFAULT_RECIPE)
    if config.captions:
        recipe = with_captions(recipe, config.captions)
    if config.broll:
        recipe = with_broll(recipe, config.broll)
    recipe, voice = _voice_wish(source, recipe, config)
    lufs = analysis["loudness_lufs"]
    return RenditionOrder(
        source_id=source["source_id"],
        source_key=source["object_key"],
        source_sha256=source["sha256"],
        duration_s=source["duration_s"],
        has_audio=source["has_audio"],
        recipe=recipe,
        seed=seed_for(recipe, source["sha256"], config.seed),
        loudness=None if lufs is None else Loudness(lufs, analysis["true_peak_dbtp"]),
        captions_key=source.get("captions_key"),
        broll=_broll_order(source, analysis, config) if recipe.broll else None,
        voice=voice,
        fingerprint_key=analysis.get("fingerprint_key"),
        platform=config.platform,
        subject_key=analysis.get("subject_key"),
        encoder=config.encoder or get_settings().encoder,
    )


def _for_platform(selected: list[str], platform: str | None) -> list[str]:
    """The formats to make; refuses a platform whose format is not among the selected assets."""
    from ettametta_pipelines.failures import PermanentError
    from ettametta_pipelines.renders.platforms import choose_platform

    if platform is None:
        return selected
    wanted = choose_platform(platform).format
    if wanted not in selected:
        raise PermanentError(
            f"{platform} takes {wanted}, which is not among the selected assets.",
            code="platform_not_selected",
            remedy=f"Select {rendition_asset(wanted)}, or leave `platform` empty.",
        )
    return [wanted]


def _broll_order(source: dict[str, Any], analysis: dict[str, Any], config: RenditionConfig) -> "BrollOrder":
    from ettametta_pipelines.renders.broll import keywords_for
    from ettametta_pipelines.renders.broll_clips import BrollOrder
    from ettametta_pipelines.renders.formats import output_rate

    stated = source.get("broll_keywords")
    words = config.broll_keywords or ([] if stated is None else [str(word) for word in stated])
    return BrollOrder(
        source_sha256=source["sha256"],
        duration_s=source["duration_s"],
        rate=output_rate(source["fps"], variable=source["variable_rate"]),
        width=source["width"],
        height=source["height"],
        shot_starts_s=tuple(float(start) for start in analysis["shot_starts_s"]),
        keywords=keywords_for(words, source["title"], source["niche"]),
        account=source["account"],
    )


def _shelves(order: "RenditionOrder", store: StoreResource, pexels: PexelsResource) -> "list[Shelf]":
    """Where clips come from, the account's own first; none where no cutaways are wanted."""
    from ettametta_pipelines.renders.broll_clips import PexelsShelf, StoreShelf

    if order.broll is None:
        return []
    stock = PexelsShelf(pexels.client(), order.broll.width, order.broll.height)
    return [StoreShelf(store.open(), order.broll.account), stock]


def _voice_wish(
    source: dict[str, Any], recipe: "Recipe", config: RenditionConfig
) -> tuple["Recipe", "VoiceWish | None"]:
    """What is to be spoken, and the recipe that says so: the launchpad's text goes before the upload's."""
    from ettametta_pipelines.discovery.niches import load_niches
    from ettametta_pipelines.renders.recipe import with_voice_over
    from ettametta_pipelines.renders.voiceover import VoiceWish

    if config.voice_over == "none":
        return recipe.model_copy(update={"voice_over": None}), None
    text = config.voice_over or source.get("voice_over")
    if not text:
        return recipe, None
    niche = load_niches(get_settings().niches_file).get(source["niche"])
    spoken_there = niche.languages[0] if niche and niche.languages else None
    language = config.language or source.get("language") or spoken_there
    wish = VoiceWish(text, language, again=config.remake_voice)
    return with_voice_over(recipe) if config.voice_over else recipe, wish


def _progress_log(context: dg.AssetExecutionContext, what: str) -> "Callable[[RenderProgress], None]":
    """Logs progress at each tenth; a line for every block would bury the rest of the run's log."""
    last_tenth = -1

    def report(update: "RenderProgress") -> None:
        nonlocal last_tenth
        tenth = int(update.percent // 10)
        if tenth > last_tenth:
            last_tenth = tenth
            left = "" if update.eta_s is None else f", {update.eta_s:.0f} s left"
            context.log.info(
                f"Rendering {what}: {update.percent:.0f} %, {update.fps:.0f} frames a second{left}"
            )

    return report


def _materialization(
    rendition: "Rendition", order: "RenditionOrder", store: StoreResource, title: str | None
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.media.animation import markdown, preview_key
    from ettametta_pipelines.media.pictures import inline_picture

    name, key = rendition.format.name, rendition.object_key
    local = store.open().local_path(key)
    metadata: dict[str, Any] = {
        "title": title,
        "watch": dg.MetadataValue.url(media_url(get_settings(), key)),
        "in_motion": dg.MetadataValue.md(
            markdown(media_url(get_settings(), preview_key(key)), f"{name} rendition, moving")
        ),
        "poster": dg.MetadataValue.md(inline_picture(rendition.poster, f"{name} rendition")),
        **related_pages(order.source_id, SOURCE, *POSTS),
        "rendered": rendition.rendered,
        "encoder": rendition.encoder,
        "recipe": order.recipe.name,
        "seed": order.seed,
        "duration_s": rendition.probe.duration_s,
        "size_mb": round(rendition.size_bytes / 1e6, 3),
        "render_key": rendition.render_key,
        "object_key": key,
    }
    if rendition.source_distance is not None:
        metadata["source_distance"] = round(rendition.source_distance, 3)
    if rendition.rendered:
        metadata |= {
            "took_s": round(rendition.render_seconds, 2),
            "speed_factor": round(rendition.speed, 3),
        }
    metadata["framing"] = "follows the subject" if rendition.path else "centre"
    metadata |= _caption_facts(rendition)
    if rendition.broll is not None:
        metadata |= {"broll": rendition.broll.in_words, "broll_credits": list(rendition.broll.credits)}
        metadata["stock_footage"] = get_settings().endpoint("pexels").standing
    metadata |= _voice_facts(rendition, order)
    if local is not None:
        metadata["file"] = dg.MetadataValue.path(str(local))
    return dg.MaterializeResult(
        asset_key=rendition_asset(name),
        value=TABLES[name].frame([_row(rendition, order)]),
        metadata=metadata,
        check_results=[_check_result(name, finding) for finding in rendition.findings],
    )


def _caption_facts(rendition: "Rendition") -> dict[str, Any]:
    """Only where the recipe asks for captions: how many are drawn, and what of them is not."""
    report = rendition.captions
    if report is None:
        return {}
    facts: dict[str, Any] = {"captions_drawn": report.drawn}
    if report.after_end:
        facts["captions_after_the_end"] = report.after_end
    if report.left_out:
        facts["characters_left_out"] = f"{report.left_out[:80]} (not in the caption font)"
    return facts


def _voice_facts(rendition: "Rendition", order: "RenditionOrder") -> dict[str, Any]:
    """Who speaks, how long, how loud and at what price; or that a text is there which the recipe leaves unspoken."""
    from ettametta_pipelines.renders.voiceover import voice_facts

    if rendition.voice is None:
        return {"voice": f"not spoken: {order.recipe.name} has no voice-over"} if order.voice else {}
    settings = get_settings()
    return dict(voice_facts(rendition.voice, lambda key: dg.MetadataValue.url(media_url(settings, key))))


def _check_result(name: str, finding: "Finding", frame: bytes | None = None) -> dg.AssetCheckResult:
    from ettametta_pipelines.media.pictures import inline_picture

    metadata: dict[str, Any] = {key: round(float(value), 4) for key, value in finding.measured.items()}
    if finding.look_at_s is not None:
        metadata["look_at_s"] = finding.look_at_s
    if frame is not None:
        metadata["frame"] = dg.MetadataValue.md(inline_picture(frame, f"{name} rendition, {finding.name}"))
    return dg.AssetCheckResult(
        asset_key=rendition_asset(name),
        check_name=finding.name,
        passed=finding.passed,
        description=finding.sentence,
        metadata=metadata,
    )


def _row(rendition: "Rendition", order: "RenditionOrder") -> dict[str, Any]:

    from ettametta_pipelines.renders.recipe import canonical_json

    return {
        "source_id": order.source_id,
        "format": rendition.format.name,
        "object_key": rendition.object_key,
        "sha256": rendition.sha256,
        "size_bytes": rendition.size_bytes,
        "render_key": rendition.render_key,
        "recipe_name": order.recipe.name,
        "recipe_json": canonical_json(order.recipe),
        "seed": order.seed,
        "width": rendition.probe.width,
        "height": rendition.probe.height,
        "fps": rendition.probe.fps,
        "duration_s": rendition.probe.duration_s,
        "has_audio": rendition.probe.has_audio,
        "ffmpeg_build": rendition.ffmpeg_build,
        "encoder": rendition.encoder,
        "source_distance": rendition.source_distance,
        "rendered": rendition.rendered,
        "render_seconds": rendition.render_seconds,
        "broll_json": json.dumps(rendition.broll.document(), ensure_ascii=False) if rendition.broll else None,
        "voice_json": json.dumps(rendition.voice.document()) if rendition.voice else None,
    }


@table_asset(
    THUMBNAILS,
    partitions_def=SOURCE_VIDEO,
    group_name="renders",
    kinds={"ffmpeg", "numpy", "jpeg"},
    pool="thumbnails",
    videos_per_run=THUMBNAILS_PER_RUN,
    description="""
Three frames of the source to choose a title picture from, the best first: sharp, evenly lit, away from cuts, and with
the subject in it, faces before all. Each is cut twice, wide (1280x720) and upright (1080x1920, around the subject),
and comes plain and with the title drawn in two ways: *headline*, white on a darkened side, and *block*, black on
yellow. The same source and title give the same pictures; a picture's name holds its hash, so none is ever overwritten.

**If it fails:** *decode_failed* means the source is damaged somewhere after its beginning: export it again and upload
that. *disk_full*, *out_of_memory* and *ffmpeg_killed* are the machine's and are tried again by themselves. Renditions
and publishing do not wait for this.
""",
)
def thumbnails(
    context: dg.AssetExecutionContext,
    store: StoreResource,
    source_media: pd.DataFrame,
    media_analysis: pd.DataFrame,
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.media.intake import require_accepted
    from ettametta_pipelines.media.stills import from_words
    from ettametta_pipelines.media.subject import track_from_json
    from ettametta_pipelines.previews import Thumb, picture_strip
    from ettametta_pipelines.renders.thumbnails import obtain_thumbnails

    source, analysis = plain_rows(source_media)[0], plain_rows(media_analysis)[0]
    with failure_policy(context):
        require_accepted(source)
        kept = obtain_thumbnails(
            store.open(),
            context.partition_key,
            source["object_key"],
            [float(start) for start in analysis["shot_starts_s"]],
            scratch=get_settings().home_dir / "scratch",
            subject=track_from_json(store.open().get(key)) if (key := analysis.get("subject_key")) else None,
            title=source["title"],
            scored=from_words(analysis["stills"]),
        )
    shown = [t for t in kept if t.row["rank"] == 1 or t.row["variant"] == "plain"]
    strip = picture_strip(
        [Thumb(f"{t.row['time_s']:.1f} s, {t.row['shape']}, {t.row['variant']}", t.jpeg) for t in shown]
    )
    return dg.MaterializeResult(
        value=THUMBNAILS.frame([t.row for t in kept]),
        metadata={
            "pictures": dg.MetadataValue.md(strip or "none"),
            "count": len(kept),
            "new": sum(t.new for t in kept),
            "best_time_s": kept[0].row["time_s"],
            "best_sharpness": round(kept[0].row["sharpness"], 1),
            "best_exposure": round(kept[0].row["exposure"], 3),
        },
    )


ASSETS = [renditions, thumbnails]
