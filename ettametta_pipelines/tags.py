"""Run tags and metadata keys operators filter by. A leaf module: imports nothing, decides nothing."""

ACCOUNT_TAG = "ettametta/account"
NICHE_TAG = "ettametta/niche"
TITLE_TAG = "ettametta/title"
# One for each platform a run posts to, since the filter of the Runs page compares whole values.
PLATFORM_TAGS = {"youtube": "ettametta/youtube", "tiktok": "ettametta/tiktok"}
YES = "yes"
TIER_TAG = "ettametta/tier"
# Read by whatever starts a pod with a GPU for the run.
GPU_PRIORITY_TAG = "ettametta/gpu_priority_class"
# How much of a cluster a run is given; see run_sizes.py.
RUN_SIZE_TAG = "ettametta/size"
SLOT_TAG = "ettametta/slot"
TELL_TAG = "ettametta/tell"
# Of a run for several videos: those it could not make, with commas.
FAILED_VIDEOS_TAG = "ettametta/failed_videos"

# Backfills run below everything an operator or the night is waiting for.
PRIORITY_TAG = "dagster/priority"
NIGHTLY_PRIORITY = {PRIORITY_TAG: "5"}
UPLOAD_PRIORITY = {PRIORITY_TAG: "10"}
# Dagster names whoever launched a run here, where it knows.
USER_TAG = "user"
