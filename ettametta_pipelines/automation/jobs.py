"""Jobs: one per stage an operator starts, watches or repeats, named as they would say it.

A job holds assets of one partitioning only. What is not here is started from the asset graph itself. A backfill takes
its job's tags, so jobs that are backfilled have no priority of their own: who starts the night's runs gives it them.
"""

import warnings

import dagster as dg

from ettametta_pipelines.partitions import DAY, DAY_NICHE, SOURCE_VIDEO
from ettametta_pipelines.tags import NIGHTLY_PRIORITY, UPLOAD_PRIORITY

DISCOVERY_JOB = "nightly_discovery"
NICHE_OVERVIEW_JOB = "niche_overview"
INGEST_JOB = "ingest_upload"
PUBLISH_JOB = "publish_video"
ANALYTICS_JOB = "read_publication_analytics"
VARIANTS_JOB = "compare_variants"
QUEUE_JOB = "plan_publishing"
APPROVAL_JOB = "decide_publication"
METRICS_JOB = "refresh_publication_metrics"
REVENUE_JOB = "book_daily_revenue"
YOUTUBE_REVENUE_JOB = "read_youtube_revenue"
COMMISSIONS_JOB = "book_late_commissions"
QUOTA_JOB = "quota_usage"
SNAPSHOT_JOB = "take_video_snapshots"
RERANK_JOB = "rank_trends_again"
RETENTION_JOB = "delete_old_statistics"
CALIBRATION_JOB = "calibrate_score"
PACK_JOB = "pack_tables"
PLANS_JOB = "reconcile_plans"
SLOTS_JOB = "return_video_slots"
CHANNELS_JOB = "check_channels"
OVERVIEW_JOB = "morning_page"
CATALOG_JOB = "catalog_videos"
LIFECYCLE_JOB = "apply_storage_lifecycle"
INVENTORY_JOB = "count_storage"
ARCHIVE_JOB = "archive_videos"
PRUNE_JOB = "prune_history"
SHELF_JOB = "read_shop"
MATCHING_JOB = "match_products"
SYNTHESIS_JOB = "synthesize_clips"
PROMPT_JOB = "synthesize_from_prompt"
_SYNTHESIS = dg.AssetSelection.assets("synthesis_plans", "synthesized_clips")
TRIAL_JOB = "try_recipe"
WEBHOOKS_JOB = "catch_up_webhooks"

# What computes from stored tables alone takes many partitions a run when it is backfilled by itself; in the whole
# chain each run is one partition, as Dagster says here each time the definitions load.
for chain in (DISCOVERY_JOB, INGEST_JOB):
    warnings.filterwarnings("ignore", f"Asset job {chain} materializes assets with varying BackfillPolicies")

JOBS = [
    dg.define_asset_job(
        DISCOVERY_JOB,
        selection=dg.AssetSelection.assets(
            "youtube_candidates",
            "tiktok_candidates",
            "trend_candidates",
            "quarantined_candidates",
            "candidate_assessments",
            "scored_candidates",
            "creative_briefs",
        ),
        partitions_def=DAY_NICHE,
        description="Find, judge and score what is rising in one niche on one day, and write its briefs.",
    ),
    dg.define_asset_job(
        NICHE_OVERVIEW_JOB,
        selection=dg.AssetSelection.assets("niche_trends"),
        partitions_def=DAY,
        description="The day's trends of all niches on one page.",
    ),
    dg.define_asset_job(
        INGEST_JOB,
        selection=dg.AssetSelection.assets(
            "source_media",
            "media_analysis",
            "rendition_9x16",
            "rendition_16x9",
            "rendition_1x1",
            "thumbnails",
        ),
        partitions_def=SOURCE_VIDEO,
        description="Accept one upload, analyse it, render it in three formats and pick thumbnails. Publishes nothing.",
    ),
    dg.define_asset_job(
        TRIAL_JOB,
        selection=dg.AssetSelection.assets("recipe_trials"),
        partitions_def=SOURCE_VIDEO,
        tags=UPLOAD_PRIORITY,
        config=dg.RunConfig(
            ops={"recipe_trials": {"config": {"recipe": "cinematic", "format": "9x16", "length_s": 6.0}}}
        ),
        description="Try a recipe on a piece of one video, and look at what comes out. Publishes nothing.",
    ),
    dg.define_asset_job(
        PUBLISH_JOB,
        selection=dg.AssetSelection.assets(
            "youtube_publications", "youtube_thumbnails", "tiktok_publications"
        ),
        partitions_def=SOURCE_VIDEO,
        tags=UPLOAD_PRIORITY | {"dagster/max_retries": "0"},
        description="Post one finished video to YouTube and TikTok. Running it again never posts twice.",
    ),
    dg.define_asset_job(
        ANALYTICS_JOB,
        selection=dg.AssetSelection.assets("publication_analytics"),
        partitions_def=DAY,
        description="Read YouTube's own figures of our posts again, for days that are still revised.",
    ),
    dg.define_asset_job(
        VARIANTS_JOB,
        selection=dg.AssetSelection.assets("variant_results"),
        description="Compare the variants of titles and hooks.",
    ),
    dg.define_asset_job(
        QUEUE_JOB,
        selection=dg.AssetSelection.assets("publish_queue"),
        description="Look at what is posted when and what waits for a person. Posts nothing.",
    ),
    dg.define_asset_job(
        APPROVAL_JOB,
        selection=dg.AssetSelection.assets("publication_approvals"),
        partitions_def=SOURCE_VIDEO,
        tags=UPLOAD_PRIORITY,
        description="See what would be posted of one video, and approve, hold or reject it.",
    ),
    dg.define_asset_job(
        METRICS_JOB,
        selection=dg.AssetSelection.assets("publication_metrics"),
        partitions_def=DAY,
        description="Read the statistics of our own posts.",
    ),
    dg.define_asset_job(
        CALIBRATION_JOB,
        selection=dg.AssetSelection.assets("post_outcomes", "score_quality", "score_challenger"),
        partitions_def=DAY,
        description="Lay what became of our posts to the scores they were picked by, and test the challenger.",
    ),
    dg.define_asset_job(
        REVENUE_JOB,
        selection=dg.AssetSelection.assets(
            "stripe_raw",
            "shopify_raw",
            "stripe_ledger",
            "shopify_ledger",
            "daily_revenue",
            "ledger_reconciliation",
            "affiliate_earnings",
            "shopify_orders",
            "content_costs",
            "revenue_attribution",
            "content_margin",
        ),
        partitions_def=DAY,
        description="Read, book and reconcile business days, one or years of them, and tell what earned it and what it "
        "cost. Repeating books the same.",
    ),
    dg.define_asset_job(
        YOUTUBE_REVENUE_JOB,
        selection=dg.AssetSelection.assets("youtube_revenue", "daily_revenue", "revenue_attribution"),
        partitions_def=DAY,
        description="Read what YouTube channels earn, for days that are still revised, and book what is finalised.",
    ),
    dg.define_asset_job(
        COMMISSIONS_JOB,
        selection=dg.AssetSelection.assets("affiliate_earnings", "revenue_attribution"),
        partitions_def=DAY,
        description="Book days again about whose sales a network has decided late, and tell what earned them.",
    ),
    dg.define_asset_job(
        QUOTA_JOB,
        selection=dg.AssetSelection.assets("api_quota_usage"),
        partitions_def=DAY,
        description="How much of the vendors' daily quotas is spent, by whom, and when parked searches will be made.",
    ),
    dg.define_asset_job(
        SNAPSHOT_JOB,
        selection=dg.AssetSelection.assets("video_snapshots"),
        partitions_def=DAY,
        description="Read the statistics of candidates that have just reached a fixed age.",
    ),
    dg.define_asset_job(
        RERANK_JOB,
        selection=dg.AssetSelection.assets("trend_candidates"),
        partitions_def=DAY_NICHE,
        description="Rank a day's stored candidates again with the snapshots taken since. Costs no call.",
    ),
    dg.define_asset_job(
        RETENTION_JOB,
        selection=dg.AssetSelection.assets("statistics_retention"),
        description="Delete others' statistics that have become too old to be kept.",
    ),
    dg.define_asset_job(
        PACK_JOB,
        selection=dg.AssetSelection.assets("table_packs"),
        description="Put the small files of months gone by together, so that queries over long ranges stay quick.",
    ),
    dg.define_asset_job(
        PLANS_JOB,
        selection=dg.AssetSelection.assets("account_entitlements"),
        tags=NIGHTLY_PRIORITY,
        description="Read every subscription from Stripe, and repair what was lost. Safe to repeat at any time.",
    ),
    dg.define_asset_job(
        SLOTS_JOB,
        selection=dg.AssetSelection.assets("video_slots"),
        description="Return the video slots of runs that never came back, and show who holds what.",
    ),
    dg.define_asset_job(
        SHELF_JOB,
        selection=dg.AssetSelection.assets("shopify_products", "affiliate_links"),
        description="Read the shop's products, and what the affiliate links brought.",
    ),
    dg.define_asset_job(
        MATCHING_JOB,
        selection=dg.AssetSelection.assets("product_matches"),
        partitions_def=DAY,
        description="Choose which product and link posts of each niche offer.",
    ),
    dg.define_asset_job(
        WEBHOOKS_JOB,
        selection=dg.AssetSelection.assets("webhook_messages"),
        tags=NIGHTLY_PRIORITY,
        description="Fetch what vendors told while we could not hear, and show what waits for a person.",
    ),
    dg.define_asset_job(
        CHANNELS_JOB,
        selection=dg.AssetSelection.assets("connected_channels"),
        tags=UPLOAD_PRIORITY,
        description="Renew the channels' tokens that are due, and show how every channel stands.",
    ),
    dg.define_asset_job(
        OVERVIEW_JOB,
        selection=dg.AssetSelection.assets("operations_overview"),
        tags=UPLOAD_PRIORITY,
        description="Make the morning page as things stand now. Only reads.",
    ),
    dg.define_asset_job(
        CATALOG_JOB,
        selection=dg.AssetSelection.assets("video_catalog"),
        description="List every source video by title, with where it stands. Only reads.",
    ),
    dg.define_asset_job(
        SYNTHESIS_JOB,
        selection=_SYNTHESIS,
        partitions_def=DAY_NICHE,
        tags=UPLOAD_PRIORITY | {"dagster/max_retries": "0"},
        description="Plan a clip for each brief of a day and niche, make it, and hand it in. Orders nothing twice.",
    ),
    dg.define_asset_job(
        PROMPT_JOB,
        selection=_SYNTHESIS,
        partitions_def=DAY_NICHE,
        tags=UPLOAD_PRIORITY | {"dagster/max_retries": "0"},
        config=dg.RunConfig(
            ops={
                "synthesis_plans": {
                    "config": {"prompt": "What is to be seen, in your words", "account": "agency"}
                }
            }
        ),
        description="Make one clip from a prompt: put it into the configuration, with account and engine.",
    ),
    dg.define_asset_job(
        LIFECYCLE_JOB,
        selection=dg.AssetSelection.assets("storage_lifecycle"),
        description="Count what is due to leave the store, and let it leave; set the bucket's rules.",
    ),
    dg.define_asset_job(
        INVENTORY_JOB,
        selection=dg.AssetSelection.assets("storage_inventory"),
        partitions_def=DAY,
        description="Count what lies in the store, by prefix and account.",
    ),
    dg.define_asset_job(
        ARCHIVE_JOB,
        selection=dg.AssetSelection.assets("archived_videos"),
        description="Take finished old videos out of the live partitions, or call some back.",
    ),
    dg.define_asset_job(
        PRUNE_JOB,
        selection=dg.AssetSelection.assets("pruned_history"),
        description="Delete old runs, logs and ticks that nothing hangs on.",
    ),
]
