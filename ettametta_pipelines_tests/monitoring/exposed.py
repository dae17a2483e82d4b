"""What the three exporters really say: scraped once over their own code, as series by name."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

# What Prometheus itself adds to every series, and the name of the metric.
TARGET_LABELS = {"job", "instance", "pod", "namespace", "container"}
_METRIC = re.compile(r"\b((?:ettametta|process)_[a-z_]+)(\{[^}]*\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPED = re.compile(r"\b(?:by|without|ignoring|on|group_left|group_right)\s*\(([^)]*)\)")


@dataclass
class Exposed:
    """Values of every label of every series, by the series' name."""

    series: dict[str, dict[str, set[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )

    def add(self, text: str) -> None:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                known = self.series[sample.name]
                for label, value in sample.labels.items():
                    known[label].add(value)

    def faults(self, expr: str) -> list[str]:
        """What an expression names that no exporter has."""
        found: list[str] = []
        named: set[str] = set()
        for name, matchers in _METRIC.findall(expr):
            if name not in self.series:
                found.append(f"there is no {name}")
                continue
            named |= set(self.series[name])
            for label, how, value in _MATCHER.findall(matchers):
                if label in TARGET_LABELS:
                    continue
                if label not in self.series[name]:
                    found.append(f"{name} has no label {label}")
                elif not self._matches(name, label, how, value):
                    found.append(f"no {name} has {label}{how}{value!r}")
        for labels in _GROUPED.findall(expr):
            wanted = {label.strip() for label in labels.split(",") if label.strip()}
            found += [f"nothing here has a label {label}" for label in wanted - named - TARGET_LABELS]
        return found

    def _matches(self, name: str, label: str, how: str, value: str) -> bool:
        values = self.series[name][label]
        # Each alternative has to exist, or it is a name that was mistyped.
        if how in ("=~", "!~"):
            return all(any(re.fullmatch(part, one) for one in values) for part in value.split("|"))
        return value in values


def legend_faults(legend: str, expr: str, exposed: Exposed) -> list[str]:
    labels = {label for name, _ in _METRIC.findall(expr) for label in exposed.series.get(name, {})}
    return [
        label for label in re.findall(r"\{\{\s*(\w+)\s*\}\}", legend) if label not in labels | TARGET_LABELS
    ]


def expressions(dashboard: dict[str, Any]) -> list[tuple[str, str]]:
    """(legend, expression) of every target."""
    return [(t["legendFormat"], t["expr"]) for panel in dashboard["panels"] for t in panel["targets"]]
