"""Why an upload is refused: stable reason codes with the sentence and the remedy an operator reads.

A code is a promise to tables, alerts and scripts; words may change, codes may not. Nothing is decided here.
"""

from dataclasses import dataclass

from ettametta_pipelines.untrusted import plain_text


@dataclass(frozen=True)
class Reason:
    """One refusal: `{name}` and `{detail}` are filled in when it is stated."""

    sentence: str
    remedy: str


_EXPORT = "Export it again as MP4 with H.264 video and AAC sound."
_WHOLE = "Upload the whole file again; copy it first and check its size against the original."

REASONS: dict[str, Reason] = {
    "not_a_regular_file": Reason(
        "{name} is not a regular file ({detail}).", "Give the path of the video file itself."
    ),
    "empty_file": Reason("{name} is empty (zero bytes).", "Upload it again; the first copy did not finish."),
    "too_large_file": Reason("{name} is too big: {detail}.", "Export it at a lower bit rate, or cut it."),
    "not_a_video": Reason(
        "{name} is not a video file{detail}.", "Upload MP4, MOV, MKV or WebM, whatever the file is called."
    ),
    "unsupported_container": Reason("{name} is in a format not taken here: {detail}.", _EXPORT),
    "no_video_stream": Reason("{name} holds no moving picture, only sound or cover art.", _EXPORT),
    "truncated_media": Reason("{name} is cut short: {detail}.", _WHOLE),
    "unreadable": Reason("{name} cannot be read as a video: {detail}.", _EXPORT),
    "encrypted": Reason("{name} is encrypted (DRM).", "Upload the unprotected original."),
    "unsupported_codec": Reason("{name} uses a codec not taken here: {detail}.", _EXPORT),
    "too_many_streams": Reason(
        "{name} has too many tracks: {detail}.", "Export it with one video and one sound track."
    ),
    "too_long": Reason("{name} is too long: {detail}.", "Cut it into parts."),
    "too_short": Reason("{name} is too short: {detail}.", "Upload a longer clip."),
    "too_large_frame": Reason("{name} has too large a picture: {detail}.", "Export it at 4K or less."),
    "too_small_frame": Reason(
        "{name} has too small a picture: {detail}.", "Upload the original, not a thumbnail."
    ),
    "unsupported_rotation": Reason("{name} is rotated by an angle not taken here: {detail}.", _EXPORT),
    "bad_frame_rate": Reason(
        "{name} has a frame rate not taken here: {detail}.", "Export it at 24 to 60 frames a second."
    ),
    "broken_timestamps": Reason("{name} has broken timestamps: {detail}.", _EXPORT),
    "too_complex": Reason("{name} could not be examined within the limits: {detail}.", _EXPORT),
    "bad_sidecar": Reason(
        "The sidecar {name} cannot be used: {detail}.", "Correct the sidecar and upload the video again."
    ),
    "bad_captions": Reason(
        "The captions {name} are not taken: {detail}.",
        "Correct them, put them beside the video again and materialize source_media again.",
    ),
    "upload_changed": Reason(
        "{name} was replaced by other content after it was taken in{detail}.",
        "Nothing to do for this source: the new content is a source video of its own.",
    ),
    "bad_upload_key": Reason(
        "{name} does not lie where uploads belong: {detail}.",
        "Put it under uploads/{{account}}/{{niche}}/{{yyyy}}/{{mm}}/{{dd}}/{{name}}, or use `ettametta upload`.",
    ),
    "stray_sidecar": Reason(
        "{name} is a sidecar without its video{detail}.",
        "Name it after the video: clip.mp4 has the sidecar clip.mp4.json.",
    ),
    "unfinished_upload": Reason(
        "{name} has the name of an upload that never finished{detail}.",
        "Delete it and upload again, or rename it if it is whole.",
    ),
    "odd_name": Reason(
        "{name} has a name that cannot be used: {detail}.",
        "Rename it: plain segments with single slashes between, no control characters.",
    ),
    "bad_account": Reason(
        "{name} names an account that cannot be one: {detail}.",
        "An account is 1 to 40 lower-case letters, digits and dashes.",
    ),
    "unknown_niche": Reason(
        "{name} names an unknown niche: {detail}.",
        "Use one of the known niches, or add it to the niches file and reload the code location.",
    ),
}


def state_reason(code: str, *, name: str, detail: str = "") -> tuple[str, str]:
    """Sentence and remedy of a code; the name comes from a stranger and is made harmless to read."""
    reason = REASONS[code]
    shown = plain_text(name, 120) or "the file"
    return reason.sentence.format(name=shown, detail=detail), reason.remedy.format()
