"""Writes the rules and dashboards of `k8s/monitoring` out of two tables.

Alerts and panels are rows here; what Prometheus and Grafana read is made from them, and a test compares the two and
tries every expression on what the exporters say. What to do about an alert stands in docs/runbooks.md. After a change:

    python scripts/monitoring.py
"""
# ruff: noqa: E501 (an expression is read on one line)

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
MONITORING = ROOT / "k8s" / "monitoring"
# Within the repository; who keeps it somewhere else puts that address before it by a patch of the overlay.
RUNBOOKS = "docs/runbooks.md"
INTERVAL = "30s"


@dataclass(frozen=True)
class Rule:
    """One alert: its expression, for how long, how grave, and the sentence a person reads."""

    name: str
    expr: str
    lasts: str
    severity: str
    says: str


# What /watchz says with 503 is an answer, and DaemonSilent tells of it.
BAD = 'status=~"5..",route!="/watchz"'
RULES = {
    "gateway": (
        Rule("GatewayErrors",
             f"sum(rate(ettametta_http_requests_total{{{BAD}}}[5m])) / sum(rate(ettametta_http_requests_total[5m])) > 0.01",
             "5m", "critical", "{{ $value | humanizePercentage }} of the gateway's answers are errors."),
        Rule("GatewaySlow",
             "histogram_quantile(0.95, sum by (le) (rate(ettametta_http_request_duration_seconds_bucket"
             '{route=~"/webhooks.*|/go.*|/media.*|/postbacks.*"}[5m]))) > 0.15',
             "10m", "warning", "Webhooks, links and media take {{ $value | humanizeDuration }} at the 95th percentile."),
        Rule("GatewayConnectionsUsedUp", "ettametta_database_connections_used >= 14", "5m", "warning",
             "{{ $labels.instance }} has nearly all of its 15 database connections in use."),
        Rule("GatewayLosesClicks", 'increase(ettametta_clicks_total{outcome="lost"}[15m]) > 0', "0m", "warning",
             "{{ $value }} clicks could not be noted."),
        Rule("GatewayMemoryGrows",
             'deriv(process_resident_memory_bytes{job="ettametta-gateway"}[1h]) > 1e6 / 60 and '
             'process_resident_memory_bytes{job="ettametta-gateway"} > 600e6',
             "1h", "warning", "{{ $labels.instance }} gains more than 1 MB a minute."),
    ),
    "runs": (
        Rule("ExporterPartDown", "ettametta_exporter_up == 0", "5m", "critical",
             "The {{ $labels.part }} cannot be read: every other alert about it is blind."),
        Rule("ExporterGone", 'absent(ettametta_exporter_up{part="dagster"})', "5m", "critical",
             "Nothing is heard of `ettametta metrics`."),
        Rule("DaemonSilent", "max by (daemon) (ettametta_daemon_heartbeat_age_seconds) > 300", "2m", "critical",
             "The daemon {{ $labels.daemon }} was not heard of for {{ $value | humanizeDuration }}."),
        Rule("SensorLags",
             "ettametta_tick_age_seconds > 5 * ettametta_sensor_interval_seconds + 120 and ettametta_tick_age_seconds < 86400",
             "5m", "warning", "{{ $labels.automation }} last ticked {{ $value | humanizeDuration }} ago."),
        Rule("TicksFail", "ettametta_tick_failed == 1", "15m", "warning",
             "Every tick of {{ $labels.automation }} has failed for a quarter of an hour."),
        Rule("QueueOld", 'ettametta_run_oldest_seconds{status="QUEUED"} > 3600', "5m", "warning",
             "A run has waited for {{ $value | humanizeDuration }}."),
        Rule("RunsDoNotStart", 'ettametta_run_oldest_seconds{status="STARTING"} > 900', "5m", "critical",
             "A run has been starting for {{ $value | humanizeDuration }}."),
        Rule("RunsFail",
             'ettametta_runs_last_hour{status="FAILURE"} > 5 and ignoring(status) (ettametta_runs_last_hour{status="FAILURE"} > '
             'ignoring(status) ettametta_runs_last_hour{status="SUCCESS"})',
             "5m", "critical", "{{ $value }} runs failed within an hour, more than went well."),
        Rule("PoolStuck",
             'ettametta_pool_slots{state="waiting"} > 0 and ignoring(state) '
             '(ettametta_pool_slots{state="used"} == 0)',
             "15m", "warning", "Steps wait for the pool {{ $labels.pool }}, which nobody uses."),
    ),
    "publishing": (
        Rule("PostsNeedReview",
             'sum(ettametta_publications{state=~"NEEDS_REVIEW|INCIDENT"}) > 0', "5m", "critical",
             "{{ $value }} posts are in doubt; nothing goes on with them before a person looked."),
        Rule("PostsStuck",
             'max by (platform, state) (ettametta_publication_oldest_seconds{state=~"SESSION_OPEN|FINALIZING|PROCESSING"}) > 7200',
             "10m", "warning", "A post on {{ $labels.platform }} has been {{ $labels.state }} for {{ $value | humanizeDuration }}."),
        Rule("QuotaNearlySpent",
             'ettametta_quota_left{bucket="videos_insert"} / ettametta_quota_limit{bucket="videos_insert"} < 0.1',
             "5m", "warning", "{{ $value | humanizePercentage }} of the {{ $labels.vendor }} uploads of today are left."),
        Rule("QuotaClosed", "ettametta_quota_closed == 1", "1m", "warning",
             "{{ $labels.vendor }} says that {{ $labels.bucket }} is spent."),
        Rule("VideoSlotsLeak", "ettametta_video_slots_leaked > 0", "30m", "warning",
             "{{ $value }} video slots are held by nobody."),
    ),
    "money": (
        Rule("SpendNearCap",
             'sum(ettametta_spend_microusd{mode="live",period="day"}) > 0.8 * max(ettametta_spend_cap_microusd)',
             "5m", "warning", "More than 80 % of what models may cost today is spent."),
        Rule("WebhooksWait", "ettametta_webhook_inbox_oldest_seconds > 600", "5m", "critical",
             "A vendor's message has waited for {{ $value | humanizeDuration }}: payments and plans are late."),
        Rule("WebhooksParked", 'ettametta_webhook_inbox{state="parked"} > 0', "5m", "warning",
             "{{ $value }} messages could not be applied and wait for a person."),
        Rule("AlertsUndelivered",
             'ettametta_alert_outbox_oldest_seconds > 1800 or ettametta_alert_outbox{state="parked"} > 0', "5m",
             "critical", "The product's own alerts reach nobody."),
    ),
    "gpu": (
        Rule("RenderQueueStands",
             'sum(ettametta_render_jobs{state="queued"}) > 0 and sum(ettametta_render_workers) == 0', "5m", "critical",
             "Jobs wait on the render node and no GPU works."),
        Rule("RenderNodeWithoutQueue", "ettametta_render_redis_up == 0", "5m", "warning",
             "The render node's queue does not answer."),
        Rule("GpuIdle",
             'sum(ettametta_gpu_seconds_last_hour) == 0 and sum(ettametta_render_workers) > 0 and '
             'sum(ettametta_render_jobs{state="running"}) > 0',
             "1h", "warning", "A GPU is at work and finished no clip for an hour."),
        Rule("ClipsParked", 'ettametta_clip_orders{state="parked"} > 0', "5m", "warning",
             "{{ $value }} paid clips are in doubt: nobody knows whether the vendor made them."),
    ),
}  # fmt: skip

# Title, unit, then (legend, expression). A row of a dashboard is three panels wide.
DASHBOARDS: dict[str, tuple[str, list[tuple[str, str, list[tuple[str, str]]]]]] = {
    "gateway": ("Gateway", [
        ("Requests a second", "reqps", [("{{route}}", "sum by (route) (rate(ettametta_http_requests_total[5m]))")]),
        ("Errors", "percentunit", [("{{status}}", f"sum by (status) (rate(ettametta_http_requests_total{{{BAD}}}[5m])) "
                                    "/ ignoring(status) group_left sum(rate(ettametta_http_requests_total[5m]))")]),
        ("Latency", "s", [(f"p{share}", f"histogram_quantile(0.{share}, sum by (le) "
                           "(rate(ettametta_http_request_duration_seconds_bucket[5m])))") for share in (50, 95, 99)]),
        ("p95 by route", "s", [("{{route}}", "histogram_quantile(0.95, sum by (le, route) "
                               "(rate(ettametta_http_request_duration_seconds_bucket[5m])))")]),
        ("Database connections", "short", [("{{instance}}", "ettametta_database_connections_used")]),
        ("Memory", "bytes", [("{{instance}}", 'process_resident_memory_bytes{job="ettametta-gateway"}')]),
        ("Under way", "short", [("{{instance}}", "ettametta_http_requests_running")]),
        ("Processor", "short", [("{{instance}}", 'rate(process_cpu_seconds_total{job="ettametta-gateway"}[5m])')]),
        ("Clicks lost", "short", [("", 'increase(ettametta_clicks_total{outcome="lost"}[1h])')]),
    ]),
    "pipeline": ("Pipeline", [
        ("Runs", "short", [("{{status}}", "ettametta_runs")]),
        ("Oldest run", "s", [("{{status}}", "ettametta_run_oldest_seconds")]),
        ("Ended in the last hour", "short", [("{{status}}", "ettametta_runs_last_hour")]),
        ("Pools", "short", [("{{pool}} {{state}}", "ettametta_pool_slots")]),
        ("Since the last tick", "s", [("{{automation}}", "ettametta_tick_age_seconds / ettametta_sensor_interval_seconds")]),
        ("Daemons, last heard of", "s", [("{{daemon}}", "ettametta_daemon_heartbeat_age_seconds")]),
        ("Posts not at an end", "short", [("{{platform}} {{state}}", "ettametta_publications > 0")]),
        ("Oldest post", "s", [("{{platform}} {{state}}", "ettametta_publication_oldest_seconds > 0")]),
        ("Posts of the last day", "short", [("{{platform}} {{state}}", "ettametta_publications_last_day")]),
        ("Quota left", "percentunit", [("{{vendor}} {{bucket}}", "ettametta_quota_left / ettametta_quota_limit")]),
        ("Spent", "currencyUSD", [("{{period}}", 'ettametta_spend_microusd{mode="live"} / 1e6'),
                                  ("cap a day", "ettametta_spend_cap_microusd / 1e6")]),
        ("Vendors' messages", "short", [("{{state}}", "ettametta_webhook_inbox")]),
        ("Alerts on their way", "short", [("{{state}}", "ettametta_alert_outbox")]),
        ("Alerts open", "short", [("{{severity}}", "ettametta_alerts_open")]),
        ("GPUs busy", "short", [("{{engine}}", "ettametta_gpu_seconds_last_hour / 3600")]),
        ("Render node", "short", [("{{state}}", "ettametta_render_jobs"), ("workers", "ettametta_render_workers")]),
        ("Clips ordered", "short", [("{{state}}", "ettametta_clip_orders")]),
        ("Reading took", "s", [("{{part}}", "ettametta_exporter_seconds")]),
    ]),
}  # fmt: skip


def anchor(name: str) -> str:
    return name.lower()


def rules() -> dict[str, Any]:
    """The PrometheusRule."""
    groups = [
        {
            "name": f"ettametta-{group}",
            "rules": [
                {
                    "alert": rule.name,
                    "expr": rule.expr,
                    "for": rule.lasts,
                    "labels": {"severity": rule.severity},
                    "annotations": {"summary": rule.says, "runbook_url": f"{RUNBOOKS}#{anchor(rule.name)}"},
                }
                for rule in listed
            ],
        }
        for group, listed in RULES.items()
    ]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "ettametta", "labels": {"app.kubernetes.io/part-of": "ettametta"}},
        "spec": {"groups": groups},
    }


def dashboard(name: str) -> dict[str, Any]:
    """One Grafana dashboard."""
    title, panels = DASHBOARDS[name]
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "uid": f"ettametta-{name}",
        "title": f"ettametta · {title}",
        "schemaVersion": 39,
        "refresh": INTERVAL,
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}]},
        "panels": [
            {
                "id": number + 1,
                "type": "timeseries",
                "title": title,
                "datasource": source,
                "gridPos": {"w": 8, "h": 8, "x": number % 3 * 8, "y": number // 3 * 8},
                "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                "targets": [
                    {"refId": chr(65 + index), "datasource": source, "expr": expr, "legendFormat": legend}
                    for index, (legend, expr) in enumerate(targets)
                ],
            }
            for number, (title, unit, targets) in enumerate(panels)
        ],
    }


def files() -> dict[Path, str]:
    """What is to be written, by path."""
    made = {
        MONITORING / "rules.yaml": "# Made by scripts/monitoring.py.\n"
        + yaml.safe_dump(rules(), sort_keys=False, width=110)
    }
    for name in DASHBOARDS:
        made[MONITORING / "dashboards" / f"{name}.json"] = json.dumps(dashboard(name), indent=1) + "\n"
    return made


def main() -> None:
    for path, text in files().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
