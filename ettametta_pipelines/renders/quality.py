"""Quality checks of one rendition: what must hold before anything may be stored or published.

Each check answers in a plain sentence, with its numbers and, where it helps, a time at which to look. They see the
finished file through the probe that judged the source and through one playing of it (`playback.py`); that ffmpeg
exited 0 proves nothing. What the source itself shows (a still shot, a fade, a pause) is no fault of the rendition: it
is played too, but only when a stretch of the rendition has to be explained. `engine.py` raises when a check fails,
`assets.py` shows them as asset checks.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.fingerprint import Distance
from ettametta_pipelines.media.imprint import Imprint
from ettametta_pipelines.media.probe import POLICY, Probe, ProbeVerdict, probe_file
from ettametta_pipelines.renders.broll import Cutaway
from ettametta_pipelines.renders.caption_check import CaptionSight
from ettametta_pipelines.renders.cutaway_checks import CutawayFootage
from ettametta_pipelines.renders.fidelity import Reference, judge_encoding
from ettametta_pipelines.renders.formats import SOUND, Format
from ettametta_pipelines.renders.framing import Framed, judge_framing, shown_window
from ettametta_pipelines.renders.playback import Playback, Sensitivity, Stretch, play, play_source
from ettametta_pipelines.renders.sound import SILENCE_LUFS, Loudness, measure_loudness

# Raised whenever a check asks for more than before: what passed an older revision is judged again.
CHECKS_REVISION = 4

DURATION_TOLERANCE = 0.02
# A speed ramp may carry the shortest and the longest source just past what an upload may last.
RENDITION_POLICY = replace(
    POLICY, min_duration_s=0.9 * POLICY.min_duration_s, max_duration_s=1.1 * POLICY.max_duration_s
)
OFFSET_TOLERANCE_S = 0.040
STRETCH_TOLERANCE_S = 0.5
LOUDNESS_TOLERANCE_LU = 1.0
# Integrated loudness needs a dozen overlapping blocks of 0.4 s to mean anything; below this length it wanders.
SHORT_S = 3.0
SHORT_TOLERANCE_LU = 3.0
MAX_TRUE_PEAK_DBTP = -1.0
# Footage cannot always be followed: someone who runs out of the picture, a cut that was not found. On clips at hand a
# path leaves 0 percent of sightings cut off, a centred upright window 54 to 100.
MAX_CUT_OFF = 0.2

RENDITION = Sensitivity(
    black_luma=0.05, frozen_change=0.001, silent_dbfs=-60.0, shortest_s=STRETCH_TOLERANCE_S
)
# The source is looked at with a kinder eye: a recipe darkens, and the encoder smooths what barely moves. What is
# nearly black, still or silent there may be so here.
SOURCE_BLACK_LUMA = 0.12
SOURCE_FROZEN_CHANGE = 0.004
SOURCE_SHORTEST_S = 0.2
SOURCE_SILENCE_MARGIN_DB = 6.0
SOURCE_SILENCE_DBFS = (-90.0, -35.0)
# Detectors answer a few frames late, resampling and AAC shift an edge by some milliseconds.
EDGE_S = 0.25


# Left, top, width and height of a part of the picture, as shares.
Window = tuple[float, float, float, float]


@dataclass(frozen=True)
class Finding:
    """Outcome of one check; `name` is the asset check's name, `look_at_s` a time in the rendition worth seeing."""

    name: str
    passed: bool
    sentence: str
    measured: Mapping[str, float] = field(default_factory=dict)
    look_at_s: float | None = None


class Footage:
    """The source, played once for all its renditions when one of them has something to explain.

    `source_time` maps seconds of a rendition to seconds of the source where a recipe changes the pace, `output_time`
    the other way; `cutaways` are shown instead of it.
    """

    def __init__(
        self,
        path: Path,
        probe: Probe,
        loudness: Loudness | None = None,
        source_time: Callable[[float], float] | None = None,
        output_time: Callable[[float], float] | None = None,
        cutaways: Sequence[Cutaway] = (),
    ) -> None:
        self.path = path
        self.probe = probe
        self.source_time = source_time or (lambda seconds: seconds)
        self.output_time = output_time or (lambda seconds: seconds)
        self.cutaways = CutawayFootage(cutaways)
        self._loudness = loudness
        self._loudness_known = loudness is not None
        self._played: dict[Window | None, Playback] = {}
        self._lock = Lock()

    def loudness(self, scratch: Path) -> Loudness | None:
        """Of the whole source; None without sound or when it is silent."""
        with self._lock:
            if not self._loudness_known:
                self._loudness = measure_loudness(self.path.absolute(), self.probe, scratch)
                self._loudness_known = True
        return self._loudness

    def beyond_clips(
        self, stretches: Iterable[Stretch], of_clip: Callable[[Playback], Iterable[Stretch]], scratch: Path
    ) -> list[Stretch]:
        """What is left of stretches within cutaways beyond what their clips show themselves."""
        eye = Sensitivity(SOURCE_BLACK_LUMA, SOURCE_FROZEN_CHANGE, SOURCE_SILENCE_DBFS[0], SOURCE_SHORTEST_S)
        with self._lock:
            return self.cutaways.unexplained(stretches, of_clip, beyond, eye, scratch)

    def played(self, gained_db: float, scratch: Path, window: Window | None = None) -> Playback:
        """What the source shows, or a part of it; its silence is judged as it sounds after the rendition's gain."""
        with self._lock:
            if window not in self._played:
                lowest, highest = SOURCE_SILENCE_DBFS
                silent = RENDITION.silent_dbfs - gained_db + SOURCE_SILENCE_MARGIN_DB
                eye = Sensitivity(
                    SOURCE_BLACK_LUMA,
                    SOURCE_FROZEN_CHANGE,
                    min(max(silent, lowest), highest),
                    SOURCE_SHORTEST_S,
                )
                self._played[window] = play_source(self.path, self.probe, eye, scratch, window=window)
        return self._played[window]


@dataclass(frozen=True)
class Expectation:
    """What a rendition must be. `bars` is the height of its letterbox bars; without `source` nothing is excused.

    Without `framed` no subject is known; `spoken` is where a voice-over must sound, `mixed` how loud it was together
    with the source's sound. `reference` is what the graph made, `captions` what must be seen of them, `distance` how
    far thumbs are from the source's; where one of these is missing there is nothing to compare with. `keep_imprint` is
    given the imprint and the animated preview that are taken while it is played.
    """

    format: Format
    duration_s: float
    has_audio: bool
    bars: int = 0
    source: Footage | None = None
    spoken: Sequence[tuple[float, float]] = ()
    mixed: Loudness | None = None
    framed: Framed | None = None
    reference: Reference | None = None
    captions: CaptionSight | None = None
    distance: Callable[[bytes], Distance] | None = None
    keep_imprint: Callable[[Imprint, bytes], None] | None = None

    @property
    def stills(self) -> set[int]:
        """Numbers of the frames its checks look at."""
        numbers = set(self.reference.numbers) if self.reference else set()
        return numbers | ({moment.number for moment in self.captions.moments()} if self.captions else set())


def _readable(verdict: ProbeVerdict) -> Finding:
    probe = verdict.probe
    wanted = probe is not None and (probe.video_codec, probe.pixel_format) == ("h264", "yuv420p")
    depth = (
        ""
        if wanted or probe is None
        else f" in {probe.pixel_format}; H.264 in yuv420p is what plays everywhere"
    )
    return Finding("readable", wanted, f"Read back as {verdict.summary}{depth}.")


def _exact_size(made: Probe, wanted: Expectation) -> Finding:
    size, exact = (made.width, made.height), (wanted.format.width, wanted.format.height)
    square = made.sample_aspect == (1, 1)
    sentence = f"It is {size[0]}x{size[1]}, wanted {exact[0]}x{exact[1]}" + (
        "." if square else ", pixels not square."
    )
    return Finding(
        "exact_size", size == exact and square, sentence, {"width": made.width, "height": made.height}
    )


def _duration(made: Probe, wanted: Expectation) -> Finding:
    off = abs(made.duration_s - wanted.duration_s)
    # One frame is the grain of time: a two-second clip may not fail for it.
    allowed = max(DURATION_TOLERANCE * wanted.duration_s, 1.01 / made.fps if made.fps else 0.0)
    sentence = f"It lasts {made.duration_s:.2f} s, wanted {wanted.duration_s:.2f} s within {allowed:.2f} s."
    measured = {"duration_s": made.duration_s, "wanted_s": wanted.duration_s}
    return Finding("duration_matches", off <= allowed, sentence, measured)


def _sound(made: Probe, wanted: Expectation) -> Finding:
    if not wanted.has_audio:
        return Finding("sound_present", not made.has_audio, "The source has no sound.")
    short = made.duration_s - made.audio_duration_s
    if not made.has_audio:
        return Finding("sound_present", False, "The source has sound, the rendition has none.")
    allowed = max(DURATION_TOLERANCE * wanted.duration_s, 0.1)
    sentence = f"Sound lasts {made.audio_duration_s:.2f} s beside {made.duration_s:.2f} s of picture."
    return Finding("sound_present", abs(short) <= allowed, sentence, {"sound_s": made.audio_duration_s})


def _together(made: Probe, wanted: Expectation) -> Finding:
    if not made.has_audio:
        return Finding("sound_in_sync", not wanted.has_audio, "There is no sound to be in sync.")
    start = made.audio_starts_s - made.starts_s
    end = made.audio_duration_s - made.duration_s
    allowed = OFFSET_TOLERANCE_S + (1 / made.fps if made.fps else 0.0)
    sentence = f"Sound starts {_off(start)} the picture and ends {_off(end)} it; {1000 * allowed:.0f} ms are allowed."
    measured = {"start_offset_s": start, "end_offset_s": end, "allowed_s": allowed}
    return Finding("sound_in_sync", max(abs(start), abs(end)) <= allowed, sentence, measured)


def _subject(made: Probe, wanted: Expectation) -> Finding:
    name, framed, source = "subject_in_frame", wanted.framed, wanted.source
    kept = judge_framing(framed, made.width, made.height, wanted.bars) if framed else None
    if kept is None or not kept.seen:
        return Finding(name, True, "No subject is known that could be cut off.", {"seen": 0})
    share = kept.share_cut_off
    measured = {"share_cut_off": share, "seen": kept.seen, "allowed": MAX_CUT_OFF}
    stated = f"The subject is cut off in {share:.0%} of the {kept.seen} frames it was looked for in"
    if share <= MAX_CUT_OFF:
        return Finding(name, True, f"{stated}; {MAX_CUT_OFF:.0%} are allowed.", measured)
    middle = kept.cut_off[len(kept.cut_off) // 2].time_s
    look_at_s = round(source.output_time(middle) if source else middle, 3)
    advice = "use a recipe with fit: blur" if framed and framed.path else "use framing: subject or fit: blur"
    return Finding(name, False, f"{stated}, {MAX_CUT_OFF:.0%} are allowed: {advice}.", measured, look_at_s)


def _off(seconds: float) -> str:
    milliseconds = round(1000 * abs(seconds))
    if milliseconds == 0:
        return "with"
    return f"{milliseconds} ms {'after' if seconds > 0 else 'before'}"


@dataclass(frozen=True)
class _Showing:
    """One rendition with everything its checks may look at."""

    made: Probe
    played: Playback
    wanted: Expectation
    scratch: Path

    @property
    def gained_db(self) -> float:
        """By how much the sound was raised; 0 where one of the two is silent."""
        source = self.wanted.source.loudness(self.scratch) if self.wanted.source else None
        if source is None or self.played.loudness is None:
            return 0.0
        # No more than it ever is: the rest of the difference is a voice-over's.
        return min(self.played.loudness.lufs - source.lufs, SOUND.max_gain_db)

    def unexplained_picture(
        self, stretches: Sequence[Stretch], of_source: Callable[[Playback], Iterable[Stretch]]
    ) -> list[Stretch]:
        """As `unexplained`, but what is shown while the rendition cuts away is held against the clip."""
        footage = self.wanted.source
        if footage is None or not footage.cutaways.cutaways:
            return self.unexplained_part(self.unexplained(stretches, of_source), of_source)
        left = self.unexplained(footage.cutaways.outside(stretches), of_source)
        left = self.unexplained_part(left, of_source)
        left += _too_long(footage.beyond_clips(_too_long(stretches), of_source, self.scratch))
        return sorted(left, key=lambda stretch: -stretch.length_s)

    def unexplained_part(
        self, left: Sequence[Stretch], of_source: Callable[[Playback], Iterable[Stretch]]
    ) -> list[Stretch]:
        """What is left beyond what the part of the source that is shown does: elsewhere it may move, or be bright.

        A stretch that stands still is shown by a camera that does, so the place at its middle is its place throughout.
        """
        footage, framed = self.wanted.source, self.wanted.framed
        if footage is None or framed is None:
            return list(left)
        kept: list[Stretch] = []
        for stretch in left:
            at = Stretch(footage.source_time(stretch.start_s), footage.source_time(stretch.end_s))
            aspect = float(footage.probe.display_aspect)
            window = shown_window(framed, aspect, self.made.width, self.made.height, at.middle_s)
            if window is None:
                kept.append(stretch)
                continue
            own = list(of_source(footage.played(self.gained_db, self.scratch, window)))
            kept += _shifted(beyond(at, own), stretch.start_s - at.start_s)
        return sorted(_too_long(kept), key=lambda stretch: -stretch.length_s)

    def unexplained(
        self, stretches: Sequence[Stretch], of_source: Callable[[Playback], Iterable[Stretch]]
    ) -> list[Stretch]:
        """What is left of stretches beyond the source's own, longest first; only what exceeds the tolerance."""
        left = _too_long(stretches)
        if left and self.wanted.source is not None:
            footage = self.wanted.source
            own = list(of_source(footage.played(self.gained_db, self.scratch)))
            mapped = (Stretch(footage.source_time(s.start_s), footage.source_time(s.end_s)) for s in left)
            left = _too_long(
                piece
                for stretch, in_source in zip(left, mapped, strict=True)
                for piece in _shifted(beyond(in_source, own), stretch.start_s - in_source.start_s)
            )
        return sorted(left, key=lambda stretch: -stretch.length_s)


def beyond(stretch: Stretch, own: Iterable[Stretch]) -> list[Stretch]:
    """The pieces of a stretch outside the source's own stretches, whose edges count for a quarter second more."""
    pieces = [stretch]
    for excuse in own:
        start, end = excuse.start_s - EDGE_S, excuse.end_s + EDGE_S
        pieces = [
            piece
            for before in pieces
            for piece in (
                Stretch(before.start_s, min(before.end_s, start)),
                Stretch(max(before.start_s, end), before.end_s),
            )
            if piece.length_s > 0
        ]
    return pieces


def _shifted(pieces: Iterable[Stretch], by_s: float) -> list[Stretch]:
    return [Stretch(piece.start_s + by_s, piece.end_s + by_s) for piece in pieces]


def _too_long(stretches: Iterable[Stretch]) -> list[Stretch]:
    return [stretch for stretch in stretches if stretch.length_s > STRETCH_TOLERANCE_S]


def _stretch_finding(
    name: str, left: Sequence[Stretch], what: str, clean: str, own: Sequence[Stretch]
) -> Finding:
    total = sum(stretch.length_s for stretch in left)
    measured = {"unexplained_s": total, "stretches": len(left), "with_the_sources_own_s": _length(own)}
    if not left:
        return Finding(name, True, clean, measured)
    worst = left[0]
    more = f", and {len(left) - 1} more such stretches" if len(left) > 1 else ""
    sentence = (
        f"{what} from {worst.start_s:.2f} s to {worst.end_s:.2f} s ({worst.length_s:.2f} s) where the source "
        f"is not{more}; {STRETCH_TOLERANCE_S:g} s are allowed."
    )
    return Finding(name, False, sentence, measured | {"longest_s": worst.length_s}, round(worst.middle_s, 3))


def _length(stretches: Iterable[Stretch]) -> float:
    return sum(stretch.length_s for stretch in stretches)


def _no_black(showing: _Showing) -> Finding:
    black = showing.played.black
    left = showing.unexplained_picture(black, lambda source: source.black)
    return _stretch_finding(
        "no_black_stretch", left, "The picture is black", "No black beyond the source's.", black
    )


def _no_freeze(showing: _Showing) -> Finding:
    # Black is still, too; one fault should be named once.
    frozen = [p for s in showing.played.frozen for p in beyond(s, showing.played.black)]
    left = showing.unexplained_picture(frozen, lambda source: source.frozen)
    return _stretch_finding(
        "no_frozen_stretch", left, "The picture stands still", "It moves wherever the source does.", frozen
    )


def _no_silence(showing: _Showing) -> Finding:
    silent = showing.played.silent
    source = showing.wanted.source
    if mute := _unspoken(silent, showing.wanted.spoken):
        sentence = f"The voice-over is not heard from {mute.start_s:.2f} s to {mute.end_s:.2f} s."
        return Finding("no_new_silence", False, sentence, {}, round(mute.middle_s, 3))
    if not showing.wanted.has_audio or (
        _too_long(silent) and source is not None and source.loudness(showing.scratch) is None
    ):
        return Finding("no_new_silence", True, "The source has no sound that could be missing.")
    if not showing.made.has_audio:
        return Finding("no_new_silence", False, "The source has sound, the rendition has none.")
    left = showing.unexplained(silent, lambda playback: playback.silent)
    return _stretch_finding(
        "no_new_silence", left, "The sound is silent", "It sounds wherever the source does.", silent
    )


def _unspoken(silent: Sequence[Stretch], spoken: Sequence[tuple[float, float]]) -> Stretch | None:
    """Where a voice should be heard and nothing is; None when it is."""
    missing = [
        Stretch(max(quiet.start_s, start), min(quiet.end_s, end)) for quiet in silent for start, end in spoken
    ]
    return next(iter(_too_long(missing)), None)


def _loudness(showing: _Showing) -> Finding:
    """Within 1 LU of the target, or as near as gain and ceiling let the source come; the sentence says which."""
    name, target, got = "loudness_on_target", SOUND.target_lufs, showing.played.loudness
    if not showing.wanted.has_audio and got is None:
        return Finding(name, True, "There is no sound to be loud.")
    lufs = got.lufs if got else SILENCE_LUFS
    short = showing.made.duration_s < SHORT_S
    allowed = SHORT_TOLERANCE_LU if short else LOUDNESS_TOLERANCE_LU
    measured = {"lufs": lufs, "target_lufs": target, "tolerance_lu": allowed}
    stated = f"{lufs:.1f} LUFS" if got else "silent"
    within = f"{target:g} LUFS within {allowed:g}" + (f" (shorter than {SHORT_S:g} s)" if short else "")
    if abs(lufs - target) <= allowed:
        return Finding(name, True, f"It is {stated}, wanted {within}.", measured)
    footage, mixed = showing.wanted.source, showing.wanted.mixed
    if (footage is None and mixed is None) or lufs > target:
        return Finding(name, False, f"It is {stated}, wanted {within}.", measured)
    source = mixed or (footage.loudness(showing.scratch) if footage else None)
    if source is None:
        return Finding(name, got is None, f"It is {stated}; the source is silent.", measured)
    gain = min(target - source.lufs, SOUND.max_gain_db)
    # What would stand above the ceiling after the gain is taken down by the limiter, and the loudness with it.
    cut = max(0.0, source.peak_dbtp + gain - SOUND.ceiling_db)
    lowest = source.lufs + gain - cut - allowed
    measured |= {"source_lufs": source.lufs, "source_peak_dbtp": source.peak_dbtp, "lowest_lufs": lowest}
    why = (
        f"raised by no more than {SOUND.max_gain_db:g} dB and limited to {SOUND.ceiling_db:g} dB a source of "
        f"{source.lufs:.1f} LUFS with peaks of {source.peak_dbtp:.1f} dBTP may come out at {lowest:.1f} or more"
    )
    return Finding(name, lufs >= lowest, f"It is {stated}, wanted {within}; {why}.", measured)


def _true_peak(showing: _Showing) -> Finding:
    got = showing.played.loudness
    if got is None:
        return Finding("true_peak_below_ceiling", True, "It is silent: there is no peak.")
    sentence = (
        f"Its true peak after AAC is {got.peak_dbtp:.1f} dBTP, at most {MAX_TRUE_PEAK_DBTP:g} is allowed."
    )
    return Finding(
        "true_peak_below_ceiling",
        got.peak_dbtp <= MAX_TRUE_PEAK_DBTP,
        sentence,
        {"true_peak_dbtp": got.peak_dbtp},
    )


def _faithful(showing: _Showing) -> Finding:
    name, reference = "encoding_faithful", showing.wanted.reference
    if reference is None:
        return Finding(name, True, "There is nothing to compare the encoded frames with.")
    verdict = judge_encoding(reference, showing.wanted.format, showing.made, showing.played.stills)
    look_at_s = verdict.look_at / showing.made.fps if verdict.look_at is not None else None
    return Finding(name, verdict.passed, verdict.sentence, verdict.measured, look_at_s)


def _captions(showing: _Showing) -> Finding:
    name, captions = "captions_in_zone_and_on_time", showing.wanted.captions
    if captions is None:
        return Finding(name, True, "No captions are drawn.")
    verdict = captions.judge(showing.played.stills)
    look_at_s = verdict.look_at / showing.made.fps if verdict.look_at is not None else None
    measured = {"moments": verdict.moments, "share_found": verdict.share}
    return Finding(name, verdict.passed, verdict.sentence, measured, look_at_s)


def _distance(showing: _Showing) -> Finding:
    """Never fails: it tells a person how far the picture is from the source's, and decides nothing."""
    name, distance = "distance_from_source", showing.wanted.distance
    far = distance(showing.played.thumbs) if distance else None
    if far is None or not far.compared:
        return Finding(name, True, "There is no fingerprint of the source to compare with.")
    turned = ", which it shows mirrored" if far.mirrored else ""
    sentence = (
        f"{far.bits:g} of 64 bits of its fingerprint differ from the source's{turned}. What is cut off counts as much "
        "as what is changed; pictures that have nothing in common are about 32 apart."
    )
    measured = {"source_distance": far.bits / 64, "mirrored": far.mirrored, "samples": far.compared}
    return Finding(name, True, sentence, measured)


PROBE_CHECKS: dict[str, Callable[[Probe, Expectation], Finding]] = {
    "exact_size": _exact_size,
    "duration_matches": _duration,
    "sound_present": _sound,
    "sound_in_sync": _together,
    "subject_in_frame": _subject,
}
PLAYED_CHECKS: dict[str, Callable[[_Showing], Finding]] = {
    "no_black_stretch": _no_black,
    "no_frozen_stretch": _no_freeze,
    "no_new_silence": _no_silence,
    "loudness_on_target": _loudness,
    "true_peak_below_ceiling": _true_peak,
    "encoding_faithful": _faithful,
    "captions_in_zone_and_on_time": _captions,
    "distance_from_source": _distance,
}
CHECK_NAMES = ("readable", *PROBE_CHECKS, *PLAYED_CHECKS)


def judge_rendition(path: Path, wanted: Expectation) -> tuple[Probe | None, list[Finding]]:
    """Probe and play a finished file and run every check; what cannot be read or played has failed them.

    Writes only into private directories beside the file. Raises TransientError when the machine, not the file,
    ended the playing.
    """
    verdict = probe_file(path, policy=RENDITION_POLICY)
    if verdict.probe is None:
        unreadable = f"It cannot be read back: {verdict.reason}"
        return None, [Finding(name, False, unreadable) for name in CHECK_NAMES]
    probed = [check(verdict.probe, wanted) for check in PROBE_CHECKS.values()]
    return verdict.probe, [_readable(verdict), *probed, *_played_findings(path, verdict.probe, wanted)]


def _played_findings(path: Path, made: Probe, wanted: Expectation) -> list[Finding]:
    scratch = path.parent
    try:
        played = play(
            path, made, RENDITION, scratch,
            bars=wanted.bars, stills=wanted.stills, imprint=wanted.keep_imprint is not None,
        )  # fmt: skip
    except PermanentError as error:
        unplayable = f"It cannot be played and measured to its end: {error.message}"
        return [Finding(name, False, unplayable) for name in PLAYED_CHECKS]
    if wanted.keep_imprint is not None and played.imprint is not None:
        wanted.keep_imprint(played.imprint, played.preview)
    showing = _Showing(made, played, wanted, scratch)
    return [check(showing) for check in PLAYED_CHECKS.values()]


def findings_document(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Findings as JSON-able rows, for the command line and for the report kept beside a rendition."""
    return [
        {
            "name": finding.name,
            "passed": finding.passed,
            "sentence": finding.sentence,
            "measured": {name: round(float(value), 4) for name, value in finding.measured.items()},
            "look_at_s": finding.look_at_s,
        }
        for finding in findings
    ]


def findings_from(rows: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """The findings of such rows; raises KeyError or TypeError when they are none."""
    return [
        Finding(row["name"], row["passed"], row["sentence"], dict(row["measured"]), row["look_at_s"])
        for row in rows
    ]
