"""Every overlay is what Kubernetes takes and what we want; and each rule notices when it is broken."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from ettametta_pipelines_tests.k8s.invariants import INVARIANTS, matches, may_reach
from ettametta_pipelines_tests.k8s.rendered import (
    OVERLAYS,
    ROOT,
    Document,
    Pod,
    named,
    of_kind,
    pods,
    render,
    run_job,
    with_runs,
)

MINORS = ("1.33", "1.37")
# Of other projects' making: kubernetes-validate has no schema of them. What each must have is in OTHERS_FIELDS.
OTHERS_FIELDS = {
    "external-secrets.io/v1/ExternalSecret": {"secretStoreRef", "target", "refreshInterval"},
    "monitoring.coreos.com/v1/PodMonitor": {"selector", "podMetricsEndpoints"},
    "monitoring.coreos.com/v1/PrometheusRule": {"groups"},
    "keda.sh/v1alpha1/ScaledObject": {"scaleTargetRef", "triggers", "minReplicaCount", "maxReplicaCount"},
    "keda.sh/v1alpha1/TriggerAuthentication": {"secretTargetRef"},
    "karpenter.sh/v1/NodePool": {"template", "limits", "disruption"},
    "karpenter.k8s.aws/v1/EC2NodeClass": {"role", "amiSelectorTerms", "subnetSelectorTerms"},
    "kueue.x-k8s.io/v1beta1/ResourceFlavor": {"nodeLabels"},
    "kueue.x-k8s.io/v1beta1/ClusterQueue": {"namespaceSelector", "resourceGroups"},
    "kueue.x-k8s.io/v1beta1/LocalQueue": {"clusterQueue"},
}  # fmt: skip
# Calls that dagster-k8s' launcher, the pod client and the janitors make; a right more or less is a change to look at.
CALLS = {
    "ettametta-launcher": {
        "jobs": {"create", "get", "list", "delete"}, "jobs/status": {"get"},
        "pods": {"get", "list", "delete"}, "pods/log": {"get"}, "events": {"list"},
    },
    "ettametta-run": {"pods": {"create", "get", "list", "patch", "delete"}, "pods/log": {"get"}},
    "ettametta-janitor": {"pods": {"get", "list", "delete"}},
}  # fmt: skip


@pytest.fixture(params=OVERLAYS)
def documents(request: pytest.FixtureRequest) -> list[Document]:
    return render(request.param)


@pytest.mark.parametrize("minor", MINORS)
def test_kubernetes_takes_every_document(documents: list[Document], minor: str) -> None:
    import kubernetes_validate

    others = set()
    for document in documents:
        try:
            kubernetes_validate.validate(document, minor, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            others.add(f"{document['apiVersion']}/{document['kind']}")
            wanted = OTHERS_FIELDS[f"{document['apiVersion']}/{document['kind']}"]
            assert wanted <= document["spec"].keys(), document["metadata"]["name"]
    assert others <= OTHERS_FIELDS.keys()


@pytest.mark.parametrize("minor", MINORS)
def test_kubernetes_takes_what_the_run_launcher_makes(minor: str) -> None:
    import kubernetes_validate

    job = run_job("production", "renditions")
    kubernetes_validate.validate(job, minor, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", INVARIANTS)
def test_every_overlay_keeps(name: str, overlay: str) -> None:
    assert list(INVARIANTS[name](with_runs(overlay))) == []


def _container(documents: list[Document], deployment: str = "ettametta-gateway") -> Document:
    return dict_of(named(documents, "Deployment", deployment)["spec"]["template"]["spec"]["containers"][0])


def dict_of(document: Any) -> Document:
    assert isinstance(document, dict)
    return document


def _drop(documents: list[Document], kind: str, name: str) -> None:
    documents.remove(named(documents, kind, name))


def _without_memory_limit(documents: list[Document]) -> None:
    del _container(documents)["resources"]["limits"]["memory"]


def _without_probe(documents: list[Document]) -> None:
    del _container(documents)["livenessProbe"]


def _as_root(documents: list[Document]) -> None:
    named(documents, "Deployment", "ettametta-gateway")["spec"]["template"]["spec"]["securityContext"][
        "runAsUser"
    ] = 0


def _writable_root(documents: list[Document]) -> None:
    _container(documents)["securityContext"]["readOnlyRootFilesystem"] = False


def _more_privileges(documents: list[Document]) -> None:
    del _container(documents)["securityContext"]["allowPrivilegeEscalation"]


def _without_seccomp(documents: list[Document]) -> None:
    del named(documents, "Job", "ettametta-migrate")["spec"]["template"]["spec"]["securityContext"][
        "seccompProfile"
    ]


def _of_the_host(documents: list[Document]) -> None:
    spec = named(documents, "PodTemplate", "ettametta-gpu-worker")["template"]["spec"]
    spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}})


def _latest(documents: list[Document]) -> None:
    _container(documents)["image"] = "registry.example.com:5000/ettametta-pipelines:latest"


def _untagged(documents: list[Document]) -> None:
    _container(documents)["image"] = "registry.example.com:5000/ettametta-pipelines"


def _other_selector(documents: list[Document]) -> None:
    named(documents, "Service", "ettametta-gateway")["spec"]["selector"]["app.kubernetes.io/component"] = (
        "gate"
    )


def _unnamed_port(documents: list[Document]) -> None:
    _container(documents)["ports"][0]["name"] = "web"


def _policy_of_nobody(documents: list[Document]) -> None:
    labels = named(documents, "NetworkPolicy", "redis")["spec"]["podSelector"]["matchLabels"]
    labels["app.kubernetes.io/component"] = "rediss"


def _lost_config(documents: list[Document]) -> None:
    _drop(documents, "ConfigMap", "ettametta-workspace")


def _lost_secret(documents: list[Document]) -> None:
    _drop(documents, "ExternalSecret", "ettametta-databases")


def _lost_claim(documents: list[Document]) -> None:
    _drop(documents, "PersistentVolumeClaim", "ettametta-models")


def _lost_account(documents: list[Document]) -> None:
    _drop(documents, "ServiceAccount", "ettametta-run")


def _misspelt_variable(documents: list[Document]) -> None:
    named(documents, "ConfigMap", "ettametta-settings")["data"]["ETTAMETTA_HOMES"] = "/srv"


def _two_daemons(documents: list[Document]) -> None:
    named(documents, "Deployment", "ettametta-daemon")["spec"]["replicas"] = 2


def _overlapping_daemons(documents: list[Document]) -> None:
    del named(documents, "Deployment", "ettametta-daemon")["spec"]["strategy"]


def _fixed_replicas(documents: list[Document]) -> None:
    named(documents, "Deployment", "ettametta-gateway")["spec"]["replicas"] = 3


def _lost_target(documents: list[Document]) -> None:
    named(documents, "HorizontalPodAutoscaler", "ettametta-gateway")["spec"]["scaleTargetRef"]["name"] = (
        "gateway"
    )


def _stuck_drain(documents: list[Document]) -> None:
    named(documents, "PodDisruptionBudget", "ettametta-webserver")["spec"]["minAvailable"] = 2


def _everything_allowed(documents: list[Document]) -> None:
    named(documents, "Role", "ettametta-run")["rules"][0]["verbs"] = ["*"]


def _idle_token(documents: list[Document]) -> None:
    named(documents, "Deployment", "ettametta-gateway")["spec"]["template"]["spec"][
        "automountServiceAccountToken"
    ] = True


def _open_network(documents: list[Document]) -> None:
    _drop(documents, "NetworkPolicy", "default-deny")


def _open_namespace(documents: list[Document]) -> None:
    del of_kind(documents, "Namespace")[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]


def _upside_down(documents: list[Document]) -> None:
    named(documents, "PriorityClass", "ettametta-background")["value"] = 90000


BREAKAGES: list[tuple[str, Callable[[list[Document]], None]]] = [
    ("everything_has_requests_and_memory_limits", _without_memory_limit),
    ("services_are_probed", _without_probe),
    ("pods_have_no_more_rights_than_they_need", _as_root),
    ("pods_have_no_more_rights_than_they_need", _writable_root),
    ("pods_have_no_more_rights_than_they_need", _more_privileges),
    ("pods_have_no_more_rights_than_they_need", _without_seccomp),
    ("pods_have_no_more_rights_than_they_need", _of_the_host),
    ("images_are_pinned", _latest),
    ("images_are_pinned", _untagged),
    ("selectors_match", _other_selector),
    ("selectors_match", _unnamed_port),
    ("selectors_match", _policy_of_nobody),
    ("references_resolve", _lost_config),
    ("references_resolve", _lost_secret),
    ("references_resolve", _lost_claim),
    ("references_resolve", _lost_account),
    ("variables_are_known", _misspelt_variable),
    ("one_daemon_at_a_time", _two_daemons),
    ("one_daemon_at_a_time", _overlapping_daemons),
    ("autoscalers_have_their_target_to_themselves", _fixed_replicas),
    ("autoscalers_have_their_target_to_themselves", _lost_target),
    ("budgets_let_nodes_be_drained", _stuck_drain),
    ("rights_are_named_one_by_one", _everything_allowed),
    ("rights_are_named_one_by_one", _idle_token),
    ("nothing_flows_unless_it_is_named", _open_network),
    ("nothing_flows_unless_it_is_named", _open_namespace),
    ("classes_are_in_their_order", _upside_down),
]


def test_every_rule_is_broken_somewhere_below() -> None:
    assert {name for name, _ in BREAKAGES} == INVARIANTS.keys()


@pytest.mark.parametrize(("name", "break_it"), BREAKAGES, ids=[make.__name__ for _, make in BREAKAGES])
def test_a_broken_rule_is_noticed(name: str, break_it: Callable[[list[Document]], None]) -> None:
    documents = with_runs("production")
    assert list(INVARIANTS[name](documents)) == []
    break_it(documents)
    assert list(INVARIANTS[name](documents))


def _pod(documents: list[Document], component: str) -> Pod:
    (pod,) = [one for one in pods(documents) if one.labels["app.kubernetes.io/component"] == component]
    return pod


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        ("sign-in-operators", "webserver", 3000), ("sign-in-viewers", "webserver-readonly", 3000),
        ("sign-in-gateway", "gateway", 8000), ("webserver", "code", 3030), ("webserver-readonly", "code", 3030),
        ("daemon", "code", 3030), ("gateway", "pgbouncer", 6432), ("gateway", "redis", 6379),
        ("render-node", "redis", 6379), ("render-node", "gateway", 8000), ("run", "render-node", 8500),
    ],
)  # fmt: skip
def test_what_has_to_talk_can(source: str, target: str, port: int) -> None:
    documents = with_runs("production")
    assert may_reach(documents, _pod(documents, source), _pod(documents, target), port)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        # Who is signed in as a viewer, and whoever took over the gateway or a GPU pod, gets no further.
        ("sign-in-viewers", "webserver", 3000), ("gateway", "webserver", 3000), ("gateway", "code", 3030),
        ("gpu-worker", "redis", 6379), ("gpu-worker", "gateway", 8000), ("run", "webserver", 3000),
        ("run", "redis", 6379),
    ],
)  # fmt: skip
def test_what_has_nothing_to_say_cannot(source: str, target: str, port: int) -> None:
    documents = with_runs("production")
    assert not may_reach(documents, _pod(documents, source), _pod(documents, target), port)


def test_rights_are_the_calls_that_are_made(documents: list[Document]) -> None:
    given = {
        role["metadata"]["name"]: {
            resource: set(rule["verbs"]) for rule in role["rules"] for resource in rule["resources"]
        }
        for role in of_kind(documents, "Role")
    }
    assert given == CALLS


def test_every_reach_label_is_some_policys(documents: list[Document]) -> None:
    reaching = [
        policy["spec"]["podSelector"] for policy in of_kind(documents, "NetworkPolicy")
        if "Egress" in policy["spec"]["policyTypes"] and policy["spec"]["podSelector"]
    ]  # fmt: skip
    for pod in pods(documents):
        for label in pod.labels:
            if label.startswith("ettametta.io/to-"):
                assert any(matches(selector, {label: "true"}) for selector in reaching), (pod.name, label)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_runs_are_started_with_the_code_locations_image(overlay: str) -> None:
    documents, job = render(overlay), run_job(overlay, "renditions")
    image = job["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == _container(documents, "ettametta-code")["image"]


def test_every_overlay_is_looked_at() -> None:
    assert {path.parent.name for path in (ROOT / "k8s/overlays").glob("*/kustomization.yaml")} == set(
        OVERLAYS
    )


def test_prometheus_is_told_of_every_exporter_and_let_in() -> None:
    # Monitors once selected labels that no pod had: every rule would have been silent for ever.
    documents = render("production")
    monitors = of_kind(documents, "PodMonitor")
    (way_in,) = [
        one for one in of_kind(documents, "NetworkPolicy") if one["metadata"]["name"] == "from-monitoring"
    ]
    let_in = {entry["port"] for rule in way_in["spec"]["ingress"] for entry in rule["ports"]}
    assert {monitor["metadata"]["name"] for monitor in monitors} == {
        "ettametta-gateway", "ettametta-metrics", "ettametta-render-node",
    }  # fmt: skip
    for monitor in monitors:
        found = [pod for pod in pods(documents) if matches(monitor["spec"]["selector"], pod.labels)]
        assert len(found) == 1, monitor["metadata"]["name"]
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        ports = {port["name"]: port["containerPort"] for port in found[0].containers[0]["ports"]}
        assert ports[endpoint["port"]] in let_in
        assert matches(way_in["spec"]["podSelector"], found[0].labels)
        assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": monitor["metadata"]["name"]}]
    (rules,) = of_kind(documents, "PrometheusRule")
    assert rules["spec"]["groups"]
    assert len(named(documents, "ConfigMap", "ettametta-dashboards")["data"]) == 2


def _helm_values() -> Iterator[Any]:
    yield from sorted((ROOT / "k8s" / "helm").glob("*.values.yaml"))


@pytest.mark.parametrize("path", _helm_values(), ids=lambda path: path.name)
def test_helm_values_are_settings_of_a_chart_that_is_named(path: Any) -> None:
    text = path.read_text()
    assert text.startswith("# Chart: ")
    assert isinstance(yaml.safe_load(text), dict)
    assert json.dumps(yaml.safe_load(text)).count("password") == 0
