"""Series that set each alert off, for promtool: (series, values), a minute apart, and after how many minutes it rings.

Each is tried a second time with the last column, which is close to it and must stay silent.
"""
# ruff: noqa: E501 (a case is read on one line)

from collections.abc import Mapping
from typing import Any

# Series of the case that rings, the minute, and values by which the same series do not ring.
Case = tuple[dict[str, str], int, dict[str, str]]
BUCKET = "ettametta_http_request_duration_seconds_bucket"
GATEWAY = '{job="ettametta-gateway"}'
UPLOADS = '{vendor="youtube",bucket="videos_insert"}'


def _flat(series: str, rings: float, silent: float, minute: int) -> Case:
    return {series: f"{rings}x{minute + 5}"}, minute, {series: f"{silent}x{minute + 5}"}


CASES: dict[str, Case] = {
    "GatewayErrors": (
        {'ettametta_http_requests_total{status="500"}': "0+2x20", 'ettametta_http_requests_total{status="200"}': "0+98x20"},
        12, {'ettametta_http_requests_total{status="500"}': "0+0x20"},
    ),
    "GatewaySlow": (
        {f'{BUCKET}{{route="/go/{{code}}",le="0.15"}}': "0+80x30", f'{BUCKET}{{route="/go/{{code}}",le="+Inf"}}': "0+100x30",
         f'{BUCKET}{{route="/go/{{code}}",le="1"}}': "0+100x30"},
        18, {f'{BUCKET}{{route="/go/{{code}}",le="0.15"}}': "0+99x30"},
    ),
    "GatewayConnectionsUsedUp": _flat("ettametta_database_connections_used", 15, 9, 8),
    "GatewayLosesClicks": (
        {'ettametta_clicks_total{outcome="lost"}': "0 0 0 7 7 7 7 7 7"}, 6, {'ettametta_clicks_total{outcome="lost"}': "7x9"},
    ),
    "GatewayMemoryGrows": (
        {f"process_resident_memory_bytes{GATEWAY}": "700e6+2e6x200"}, 150, {f"process_resident_memory_bytes{GATEWAY}": "700e6+5e5x200"},
    ),
    "ExporterPartDown": _flat('ettametta_exporter_up{part="state"}', 0, 1, 7),
    "ExporterGone": (
        {'ettametta_exporter_up{part="state"}': "1x10"}, 7, {'ettametta_exporter_up{part="dagster"}': "1x10"},
    ),
    "DaemonSilent": _flat('ettametta_daemon_heartbeat_age_seconds{daemon="SENSOR"}', 400, 60, 4),
    "SensorLags": (
        {'ettametta_tick_age_seconds{automation="a"}': "900x12", 'ettametta_sensor_interval_seconds{automation="a"}': "30x12"},
        7, {'ettametta_sensor_interval_seconds{automation="a"}': "3600x12"},
    ),
    "TicksFail": _flat('ettametta_tick_failed{automation="a"}', 1, 0, 18),
    "QueueOld": _flat('ettametta_run_oldest_seconds{status="QUEUED"}', 4000, 3000, 7),
    "RunsDoNotStart": _flat('ettametta_run_oldest_seconds{status="STARTING"}', 1000, 600, 7),
    "RunsFail": (
        {'ettametta_runs_last_hour{status="FAILURE"}': "9x12", 'ettametta_runs_last_hour{status="SUCCESS"}': "3x12"},
        7, {'ettametta_runs_last_hour{status="SUCCESS"}': "30x12"},
    ),
    "PoolStuck": (
        {'ettametta_pool_slots{pool="p",state="waiting"}': "2x25", 'ettametta_pool_slots{pool="p",state="used"}': "0x25"},
        18, {'ettametta_pool_slots{pool="p",state="used"}': "1x25"},
    ),
    "PostsNeedReview": _flat('ettametta_publications{state="NEEDS_REVIEW"}', 1, 0, 7),
    "PostsStuck": _flat('ettametta_publication_oldest_seconds{platform="tiktok",state="PROCESSING"}', 8000, 7000, 15),
    "QuotaNearlySpent": (
        {f"ettametta_quota_left{UPLOADS}": "5x12", f"ettametta_quota_limit{UPLOADS}": "100x12"},
        7, {f"ettametta_quota_left{UPLOADS}": "50x12"},
    ),
    "QuotaClosed": _flat("ettametta_quota_closed", 1, 0, 3),
    "VideoSlotsLeak": _flat("ettametta_video_slots_leaked", 2, 0, 35),
    "SpendNearCap": (
        {'ettametta_spend_microusd{mode="live",period="day"}': "9x12", "ettametta_spend_cap_microusd": "10x12"},
        7, {'ettametta_spend_microusd{mode="live",period="day"}': "7x12"},
    ),
    "WebhooksWait": _flat("ettametta_webhook_inbox_oldest_seconds", 700, 500, 7),
    "WebhooksParked": _flat('ettametta_webhook_inbox{state="parked"}', 1, 0, 7),
    "AlertsUndelivered": _flat('ettametta_alert_outbox{state="parked"}', 1, 0, 7),
    "RenderQueueStands": (
        {'ettametta_render_jobs{state="queued"}': "3x12", "ettametta_render_workers": "0x12"},
        7, {"ettametta_render_workers": "1x12"},
    ),
    "RenderNodeWithoutQueue": _flat("ettametta_render_redis_up", 0, 1, 7),
    "GpuIdle": (
        {'ettametta_gpu_seconds_last_hour{engine="ltx"}': "0x90", "ettametta_render_workers": "1x90",
         'ettametta_render_jobs{state="running"}': "1x90"},
        70, {'ettametta_gpu_seconds_last_hour{engine="ltx"}': "900x90"},
    ),
    "ClipsParked": _flat('ettametta_clip_orders{state="parked"}', 1, 0, 7),
}  # fmt: skip


def promtool_tests(rules: str, alerts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The document `promtool test rules` takes: each case once as it rings, once as it does not.

    The expected labels and sentence are left to a query for the alert: what is tested is that it fires.
    """
    tests = []
    for alert, (series, minute, silent) in CASES.items():
        for given, count in ((series, 1), (series | silent, 0)):
            tests.append(
                {
                    "name": f"{alert} {'rings' if count else 'is silent'}",
                    "interval": "1m",
                    "input_series": [{"series": name, "values": values} for name, values in given.items()],
                    "promql_expr_test": [
                        {
                            "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
                            "eval_time": f"{minute}m",
                            "exp_samples": [{"labels": "{}", "value": count}],
                        }
                    ],
                }
            )
    return {"rule_files": [rules], "evaluation_interval": "1m", "tests": tests}
