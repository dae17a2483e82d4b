"""How unusual a video is for its channel, as far as what is known of the channel allows to say so.

Empirical Bayes in log space, where channels of all sizes spread alike and a hit is a sum, not a factor:

    y   = ln(views) - ln(growth_share(age))          the video's long-run views, as its age lets one expect them
    b   = ln(median long-run views of the channel)   from n other uploads; variance v = (pi/2) * s2 / n
          n uploads at ages of their own and m uploads seen by snapshots at the video's age give the mean of both
          medians by n / (1 + 0.05 n) and m, for the growth curve that brings the former to one age has errors
    m   = median of b over the niche's channels, t2 their spread, s2 the spread of videos around their channel
    w   = t2 / (t2 + v)                              weight of the channel's own uploads against the niche's median
    b'  = w * b + (1 - w) * m                        what the channel is taken to reach usually; variance w * v
    k   = s2 / (s2 + w * v)                          how much of a difference is the video's and not our ignorance
    outlier ratio = exp(k * (y - b'))

A median of fifteen uploads is believed as it is (w and k near 1), one of a single upload leans on the niche, and what
remains unsure pulls the ratio towards 1: being little known makes nobody an outlier. m, t2 and s2 are robust (medians)
and come from the candidates of the partition that were counted in the same way. Called by `trends.py`.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from ettametta_pipelines.discovery.virality import MIN_BASELINE_VIEWS, growth_share

# A median's variance is pi/2 times that of a mean.
MEDIAN_VARIANCE = math.pi / 2
# 1.4826 * median absolute deviation is the standard deviation of a normal distribution.
MAD_TO_SD = 1.4826
# Spread of a channel's uploads around their median, in nats, where too few candidates are there to measure it:
# half of all uploads lie within a factor of 1.7 of the usual.
DEFAULT_VIDEO_VARIANCE = 0.64
MIN_VIDEO_VARIANCE = 0.1
MIN_CHANNEL_VARIANCE = 0.05
MIN_VIDEOS_FOR_SPREAD = 10
MIN_CHANNELS_FOR_PRIOR = 5
# What the growth curve adds to the variance of a level, as a share of one upload's: the most uploads cannot be
# worth more than twenty that were seen at the same age.
CURVE_ERROR = 0.05
# Beyond the first or last snapshot of an upload, one within this factor of the age still stands for it.
SAME_AGE_FACTOR = 1.25
# Snapshots further apart than this say little about what lies between them.
MAX_GAP_FACTOR = 5.0

BaselineBasis = Literal["snapshots", "growth_curve", "both"]
# (age in hours, views) of one upload, by age.
Series = Sequence[tuple[float, int]]


@dataclass(frozen=True)
class Usual:
    """What a channel's other uploads reach: log of long-run views, from how many uploads, and how these were seen.

    `worth` is the number of uploads seen at the same age that would say as much.
    """

    log_views: float
    uploads: int
    worth: float
    basis: BaselineBasis


@dataclass(frozen=True)
class Spread:
    """How channels and videos of one niche spread, in log space. Without a prior a channel stands for itself."""

    video_variance: float = DEFAULT_VIDEO_VARIANCE
    channel_median: float | None = None
    channel_variance: float = 0.0


@dataclass(frozen=True)
class Outlier:
    """A ratio with what it is made of; 1 is usual. `expected_views` is of the channel at the video's age."""

    ratio: float
    unshrunk_ratio: float
    channel_weight: float
    certainty: float
    expected_views: float
    basis: BaselineBasis
    uploads: int


def usual_views(
    age_h: float, baseline_views: float | None, baseline_uploads: int, matched: Iterable[Series] = ()
) -> Usual | None:
    """The channel's yardstick for a video of this age: its other uploads at that age, and along the growth curve.

    `matched` are snapshots of the channel's other uploads. None when nothing is known. Channels below 500 usual views
    count as 500: ten times nothing is still nobody watching.
    """
    same_age = [seen for series in matched if (seen := views_at(series, age_h)) is not None]
    known: list[Usual] = []
    if same_age:
        level = _log_usual(median(same_age) / growth_share(age_h))
        known.append(Usual(level, len(same_age), len(same_age), "snapshots"))
    if baseline_views is not None and baseline_uploads > 0:
        worth = baseline_uploads / (1 + CURVE_ERROR * baseline_uploads)
        known.append(Usual(_log_usual(baseline_views), baseline_uploads, worth, "growth_curve"))
    if len(known) < 2:
        return known[0] if known else None
    worth = sum(usual.worth for usual in known)
    return Usual(
        log_views=sum(usual.worth * usual.log_views for usual in known) / worth,
        # The same upload may be known in both ways.
        uploads=max(usual.uploads for usual in known),
        worth=worth,
        basis="both",
    )


def views_at(series: Series, age_h: float) -> float | None:
    """Views of an upload at an age, straight between snapshots in log-log; None where no snapshot is near."""
    place = bisect_left(series, (age_h, -1))
    if 0 < place < len(series):
        (early, low), (late, high) = series[place - 1], series[place]
        if early > 0 and early < late <= MAX_GAP_FACTOR * early:
            share = math.log(age_h / early) / math.log(late / early)
            return math.exp((1 - share) * math.log1p(low) + share * math.log1p(high)) - 1
    near = [s for s in series[max(0, place - 1) : place + 1] if _same_age(s[0], age_h)]
    return float(near[0][1]) if near else None


def fit_spread(videos: Sequence[tuple[str, float, Usual]]) -> Spread:
    """Spread of (channel, log long-run views of a video, its channel's yardstick), defaults where too few."""
    if len(videos) < MIN_VIDEOS_FOR_SPREAD:
        video_variance = DEFAULT_VIDEO_VARIANCE
    else:
        # What videos differ by from their yardsticks is their own spread and that of the yardsticks.
        doubled = 1 + fmean(MEDIAN_VARIANCE / usual.worth for _, _, usual in videos)
        spread = _robust_variance([y - usual.log_views for _, y, usual in videos])
        video_variance = max(spread / doubled, MIN_VIDEO_VARIANCE)
    channels: Mapping[str, Usual] = {channel: usual for channel, _, usual in videos}
    if len(channels) < MIN_CHANNELS_FOR_PRIOR:
        return Spread(video_variance)
    levels = [usual.log_views for usual in channels.values()]
    sampling = fmean(_sampling_variance(usual, video_variance) for usual in channels.values())
    return Spread(
        video_variance, median(levels), max(_robust_variance(levels) - sampling, MIN_CHANNEL_VARIANCE)
    )


def log_long_run(views: int, age_h: float) -> float:
    """Log of the views a video of this age is on its way to."""
    return math.log1p(views) - math.log(growth_share(age_h))


def outlier_of(views: int, age_h: float, usual: Usual, spread: Spread) -> Outlier:
    """The shrunk ratio of a video against its channel; the formula is the module's."""
    own = _sampling_variance(usual, spread.video_variance)
    weight, level = 1.0, usual.log_views
    if spread.channel_median is not None:
        weight = spread.channel_variance / (spread.channel_variance + own)
        level = weight * usual.log_views + (1 - weight) * spread.channel_median
    certainty = spread.video_variance / (spread.video_variance + weight * own)
    reached = log_long_run(views, age_h)
    return Outlier(
        ratio=math.exp(certainty * (reached - level)),
        unshrunk_ratio=math.exp(reached - usual.log_views),
        channel_weight=weight,
        certainty=certainty,
        expected_views=math.exp(level) * growth_share(age_h),
        basis=usual.basis,
        uploads=usual.uploads,
    )


def _log_usual(views: float) -> float:
    return math.log(max(views, MIN_BASELINE_VIEWS))


def _same_age(one_h: float, other_h: float) -> bool:
    low, high = sorted((one_h, other_h))
    return low > 0 and high <= SAME_AGE_FACTOR * low


def _sampling_variance(usual: Usual, video_variance: float) -> float:
    return MEDIAN_VARIANCE * video_variance / usual.worth


def _robust_variance(values: Sequence[float]) -> float:
    middle = median(values)
    return (MAD_TO_SD * median(abs(value - middle) for value in values)) ** 2
