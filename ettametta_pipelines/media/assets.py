"""Assets of the media room: the verdict on an upload, and a look at the accepted footage. Thin: logic is beside."""

from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import FailureKind, PermanentError
from ettametta_pipelines.media.contracts import MEDIA_ANALYSIS, SOURCE_MEDIA
from ettametta_pipelines.orchestration.failure_policy import failure_policy, stamp_run
from ettametta_pipelines.orchestration.related import POSTS, RENDITIONS, related_pages
from ettametta_pipelines.orchestration.resources import StateResource, StoreResource
from ettametta_pipelines.orchestration.run_titles import name_run
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.partitions import SOURCE_VIDEO
from ettametta_pipelines.settings import get_settings

if TYPE_CHECKING:
    from ettametta_pipelines.media.intake import Upload

GROUP = "media"
ACCEPTED_CHECK = "accepted"


@table_asset(
    SOURCE_MEDIA,
    partitions_def=SOURCE_VIDEO,
    group_name=GROUP,
    kinds={"ffmpeg", "parquet"},
    check_specs=[
        dg.AssetCheckSpec(
            ACCEPTED_CHECK,
            asset="source_media",
            blocking=True,
            description="The upload is a video that can be taken; if not, nothing after it runs.",
        )
    ],
    description="""
The verdict on one upload: a video with a known length, size and rights, kept unchanged under its content's hash; or
a rejection that says in a sentence what is wrong and what to do. Strangers' files are examined in a confined process.

Title, rights, attribution and recipe come from the sidecar `{name}.json` next to the upload; without one the title
is the file's name and nobody has declared rights, so it is rendered but not published. Captions come from `{name}.srt`
or `{name}.vtt`, or as the sidecar's `captions` (a file beside it) or `words` ([{word, start, end}]); captions that
cannot be used are named in the metadata, and the video goes on without them. The sidecar's `voice_over` is a text to be
spoken over the video where the recipe has a voice-over, in its `language`.

**If the check *accepted* fails:** the file is not taken, and its reason stands in the check. Upload a good file; it
becomes a source video of its own. A corrected sidecar is taken up by the sensor by itself. **If the step fails:** the
store or the machine did; transient failures are tried again by themselves.
""",
)
def source_media(
    context: dg.AssetExecutionContext, store: StoreResource, state: StateResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from ettametta_pipelines.media.intake import accept_upload
    from ettametta_pipelines.media.rights import publishing_obstacle

    with failure_policy(context):
        upload = _find_upload(state, context.partition_key)
        scratch = get_settings().home_dir / "scratch"
        row = accept_upload(store.open(), upload, scratch=scratch, clock=utc_now)
        name_run(context, row)
    accepted = row["verdict"] == "accepted"
    if not accepted:
        stamp_run(context.instance, context.run_id, row["reason_code"], FailureKind.PERMANENT)
    obstacle = (
        publishing_obstacle(row["rights"], row["attribution"]) if accepted else "The file is not taken."
    )
    facts = (
        "rights",
        "upload_key",
        "object_key",
        "width",
        "height",
        "fps",
        "duration_s",
        "has_audio",
    )
    return dg.MaterializeResult(
        value=SOURCE_MEDIA.frame([row]),
        metadata={
            "title": row["title"],
            "verdict": row["verdict"],
            "reason": row["reason"] or "none",
            **(related_pages(context.partition_key, *RENDITIONS, *POSTS) if accepted else {}),
            "publishing": obstacle or "Nothing is missing.",
            "captions": _captions_in_words(row),
            "size_mb": round(row["size_bytes"] / 1e6, 3),
            **{name: row[name] for name in facts if row.get(name) is not None},
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=ACCEPTED_CHECK,
                passed=accepted,
                description="Accepted." if accepted else row["reason"],
                metadata={} if accepted else {"reason_code": row["reason_code"]},
            )
        ],
    )


def _captions_in_words(row: dict[str, Any]) -> str:
    if row.get("captions_problem"):
        return str(row["captions_problem"])
    return f"{row['captions_cues']} captions" if row.get("captions_key") else "none"


def _find_upload(state: StateResource, source_id: str) -> "Upload":
    """The newest accepted upload with this content, as the inbox recorded it."""
    from ettametta_pipelines.media.intake import Upload
    from ettametta_pipelines.state import uploads

    with state.open().session(write=False) as session:
        seen = uploads.for_source(session, source_id)
        if seen is None or seen.account_id is None or seen.niche is None or seen.sha256 is None:
            raise PermanentError(
                f"No upload with the content of {source_id} was ever taken in.",
                code="upload_unknown",
                remedy="Upload the video with `ettametta upload`; the upload sensor adds its partition by itself.",
            )
        return Upload(
            source_id, seen.object_key, seen.account_id, seen.niche, seen.sha256, seen.sidecar_sha256
        )


@table_asset(
    MEDIA_ANALYSIS,
    partitions_def=SOURCE_VIDEO,
    group_name=GROUP,
    kinds={"ffmpeg", "numpy", "onnx"},
    description="""
One look at the accepted footage: where its shots begin, how bright and how moving it is, how loud (EBU R 128), where
its subject is (faces, else what moves or stands out), a contact sheet of twelve frames, and a fingerprint of what it
shows. Renders take loudness, subject and fingerprint from here, thumbnails how sharp and how lit each frame is,
instead of looking again. *resembles* names another video of the account that shows the same, perhaps mirrored or at
another size; that is for a person to know and stops nothing.

**If it fails:** *decode_failed* means the file is damaged somewhere after its beginning: export it again and upload
that. *disk_full*, *out_of_memory* and *ffmpeg_killed* are the machine's and are tried again by themselves.
""",
)
def media_analysis(
    context: dg.AssetExecutionContext, store: StoreResource, source_media: pd.DataFrame
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.media.analysis import analyse_source
    from ettametta_pipelines.media.intake import require_accepted
    from ettametta_pipelines.media.pictures import inline_picture
    from ettametta_pipelines.media.resemblance import find_resembling

    source = source_media.iloc[0]
    with failure_policy(context):
        require_accepted(source.to_dict())
        scratch = get_settings().home_dir / "scratch"
        row, sheet = analyse_source(
            store.open(), context.partition_key, source["object_key"], scratch=scratch
        )
        twin = find_resembling(store.open(), context.partition_key, row["fingerprint_key"])
    seconds = row["analysis_seconds"]
    metadata: dict[str, Any] = {
        "contact_sheet": dg.MetadataValue.md(inline_picture(sheet, "contact sheet")),
        "subject": row["subject_seen"],
        "shots": row["shot_count"],
        "mean_shot_s": round(row["mean_shot_s"], 2),
        "mean_luma": round(row["mean_luma"], 3),
        "mean_motion": round(row["mean_motion"], 4),
        "loudness_lufs": row["loudness_lufs"] if row["loudness_lufs"] is not None else "silent",
        "resembles": twin.in_words if twin else "no other video of the account",
        "took_s": round(seconds, 2),
        "speed_factor": round(float(source["duration_s"]) / seconds, 2) if seconds else 0.0,
    }
    return dg.MaterializeResult(value=MEDIA_ANALYSIS.frame([row]), metadata=metadata)


ASSETS = [source_media, media_analysis]
