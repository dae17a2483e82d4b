"""Tables of the media room: the verdict on every source video, and what was seen in the accepted ones.

Declarations only. Both tables hold one row per partition; a rejected upload has its row too, with the reason.
"""

from ettametta_pipelines.storage.contracts import Column, TableContract

_KNOWN_IF_ACCEPTED = "; empty when the file was rejected"

SOURCE_MEDIA = TableContract(
    "source_media",
    "One row per source video: accepted with its probe and rights, or rejected with a reason.",
    columns=(
        Column("source_id", "string", "Account and first 16 hex digits of the content's SHA-256"),
        Column("account", "string", "Account slug the upload belongs to"),
        Column("niche", "string", "Niche slug it was uploaded under"),
        Column("upload_key", "string", "Object key of the upload this row was made from"),
        Column("object_key", "string", "Immutable accepted object" + _KNOWN_IF_ACCEPTED, nullable=True),
        Column("sha256", "string", "SHA-256 of the content, lower-case hex"),
        Column("size_bytes", "int64", "Size of the file in bytes"),
        Column("verdict", "string", "accepted or rejected"),
        Column("reason_code", "string", "Stable code of the rejection, e.g. truncated_media", nullable=True),
        Column("reason", "string", "The rejection and its remedy in plain words", nullable=True),
        Column("title", "string", "Title from the sidecar, else from the file name"),
        Column("rights", "string", "owned, licensed, cc_by, generated or undeclared"),
        Column("attribution", "string", "Credit line the rights ask for", nullable=True),
        Column("recipe", "string", "Render preset the uploader asked for", nullable=True),
        Column(
            "captions_key",
            "string",
            "Its captions in the object store; empty when it has none",
            nullable=True,
        ),
        Column("captions_cues", "int64", "How many captions; empty when it has none", nullable=True),
        Column(
            "captions_problem",
            "string",
            "Why the captions it came with were not taken; else empty",
            nullable=True,
        ),
        Column(
            "broll_keywords", "string_list", "What footage for cutaways shall show, if stated", nullable=True
        ),
        Column("voice_over", "string", "Text to be spoken over it; empty when it has none", nullable=True),
        Column("language", "string", "Language of that text, if stated, e.g. en or pt-BR", nullable=True),
        Column("brief_id", "string", "Creative brief it was made after, if stated", nullable=True),
        Column("music_json", "string", "Music in it with a right of its own, as JSON", nullable=True),
        Column("sponsor", "string", "Who pays for it, if stated", nullable=True),
        Column("paid_promotion", "bool", "Whether it is stated to be a paid promotion", nullable=True),
        Column("sidecar_sha256", "string", "Hash of the sidecar it was accepted with", nullable=True),
        Column("container", "string", "mov (MP4, QuickTime) or matroska" + _KNOWN_IF_ACCEPTED, nullable=True),
        Column("video_codec", "string", "e.g. h264" + _KNOWN_IF_ACCEPTED, nullable=True),
        Column("audio_codec", "string", "e.g. aac; empty without sound", nullable=True),
        Column("width", "int64", "Pixels, after rotation" + _KNOWN_IF_ACCEPTED, nullable=True),
        Column("height", "int64", "Pixels, after rotation" + _KNOWN_IF_ACCEPTED, nullable=True),
        Column("fps", "float64", "Mean frames per second" + _KNOWN_IF_ACCEPTED, nullable=True),
        Column("variable_rate", "bool", "Whether frames come unevenly" + _KNOWN_IF_ACCEPTED, nullable=True),
        Column("duration_s", "float64", "Seconds of moving picture" + _KNOWN_IF_ACCEPTED, nullable=True),
        Column("frames", "int64", "Frames shown" + _KNOWN_IF_ACCEPTED, nullable=True),
        Column("has_audio", "bool", "Whether there is sound" + _KNOWN_IF_ACCEPTED, nullable=True),
        Column(
            "rotation", "int64", "Degrees the stored picture is turned" + _KNOWN_IF_ACCEPTED, nullable=True
        ),
        Column("bit_depth", "int64", "Bits per sample" + _KNOWN_IF_ACCEPTED, nullable=True),
        Column("is_hdr", "bool", "Whether brightness is PQ or HLG" + _KNOWN_IF_ACCEPTED, nullable=True),
        Column("accepted_at", "timestamp", "When it was accepted (UTC)" + _KNOWN_IF_ACCEPTED, nullable=True),
    ),
    key=("source_id",),
)

MEDIA_ANALYSIS = TableContract(
    "media_analysis",
    "One row per accepted source video: shots, loudness, subject, a fingerprint and a contact sheet, computed once.",
    columns=(
        Column("source_id", "string", "The source video"),
        Column("shot_count", "int64", "Shots found, at least one"),
        Column("shot_starts_s", "string_list", "Start of each shot in seconds, three decimals, first 0.000"),
        Column("mean_shot_s", "float64", "Mean shot length in seconds"),
        Column("mean_luma", "float64", "Mean brightness of the picture, 0 black to 1 white"),
        Column("mean_motion", "float64", "Mean change of brightness from frame to frame, 0 still to 1"),
        Column(
            "loudness_lufs", "float64", "Integrated loudness (EBU R 128); empty when silent", nullable=True
        ),
        Column("true_peak_dbtp", "float64", "True peak; empty when silent", nullable=True),
        Column(
            "subject_key", "string", "Where its subject is over time, JSON in the object store", nullable=True
        ),
        Column("subject_seen", "string", "In words how the subject was found", nullable=True),
        Column("faces_share", "float64", "Share of looks at which a face was followed", nullable=True),
        Column("contact_sheet_key", "string", "JPEG of evenly spaced frames in the object store"),
        Column("contact_sheet_bytes", "int64", "Its size"),
        Column("fingerprint_key", "string", "Its perceptual fingerprint in the object store", nullable=True),
        Column(
            "fingerprint_digest", "string", "Eight samples of the fingerprint, 128 hex digits", nullable=True
        ),
        Column(
            "stills",
            "string_list",
            "Frames to choose pictures from: time, sharpness, exposure",
            nullable=True,
        ),
        Column("frames_analysed", "int64", "Frames looked at"),
        Column("analysis_seconds", "float64", "Wall time of the analysis"),
    ),
    key=("source_id",),
)

CONTRACTS: tuple[TableContract, ...] = (SOURCE_MEDIA, MEDIA_ANALYSIS)
