"""What must be true of every overlay: one function each, from documents to what is wrong, in words."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from ettametta_pipelines.settings import Settings
from ettametta_pipelines_tests.k8s.rendered import Document, Pod, named, of_kind, pods

# Secrets that neither an overlay nor the secret store brings: the certificate is cert-manager's.
EXTERNAL_SECRETS = {"ettametta-tls"}
# Read by Dagster, by libraries or by the system, and not through settings.py.
OTHERS_VARIABLES = {
    "DAGSTER_HOME", "DAGSTER_POSTGRES_URL", "DAGSTER_CURRENT_IMAGE", "DAGSTER_DISABLE_TELEMETRY",
    "DAGSTER_DAEMON_HEARTBEAT_TOLERANCE", "DAGSTER_RUN_JOB_NAME", "HOME", "HF_HUB_OFFLINE", "HF_TOKEN",
}  # fmt: skip
KNOWN_VARIABLES = OTHERS_VARIABLES | {
    (field.alias or name).upper() for name, field in Settings.model_fields.items()
}
# Asks the database and serves nobody: there is no traffic for readiness to hold back.
UNREADY = {"daemon"}
# By tier, the first before the others.
PRIORITY_ORDER = (
    "ettametta-service", "ettametta-priority", "ettametta-standard", "ettametta-run", "ettametta-background",
)  # fmt: skip

Invariant = Callable[[list[Document]], Iterator[str]]


def everything_has_requests_and_memory_limits(documents: list[Document]) -> Iterator[str]:
    # No limit of processor time is asked for: it would only slow down what shares a node with idle neighbours.
    for pod in pods(documents):
        for container in pod.containers:
            resources = container.get("resources", {})
            requests, limits = resources.get("requests", {}), resources.get("limits", {})
            for wanted, there in (
                ("cpu", requests),
                ("memory", requests),
                ("memory", limits),
                ("ephemeral-storage", limits),
            ):
                if wanted not in there:
                    yield f"{pod.name}/{container['name']} has no {wanted} in its requests or limits"
            if requests.get("memory") != limits.get("memory"):
                yield f"{pod.name}/{container['name']} may be given less memory than it may take"


def services_are_probed(documents: list[Document]) -> Iterator[str]:
    for pod in pods(documents):
        if pod.owner not in ("Deployment", "StatefulSet"):
            continue
        for container in pod.spec["containers"]:
            wanted = {"livenessProbe"} | (set() if container["name"] in UNREADY else {"readinessProbe"})
            for probe in sorted(wanted - container.keys()):
                yield f"{pod.name}/{container['name']} has no {probe}"


def pods_have_no_more_rights_than_they_need(documents: list[Document]) -> Iterator[str]:
    for pod in pods(documents):
        context = pod.spec.get("securityContext", {})
        if not context.get("runAsNonRoot") or context.get("runAsUser", 0) < 10000:
            yield f"{pod.name} may run as root or as a user of the host"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{pod.name} has no seccomp profile"
        if any(pod.spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{pod.name} shares something of its host"
        if any("hostPath" in volume for volume in pod.spec.get("volumes", [])):
            yield f"{pod.name} mounts a path of its host"
        if pod.spec.get("enableServiceLinks") is not False:
            yield f"{pod.name} is told of every service by its environment"
        for container in pod.containers:
            own = container.get("securityContext", {})
            if own.get("allowPrivilegeEscalation") is not False:
                yield f"{pod.name}/{container['name']} may gain privileges"
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{pod.name}/{container['name']} may write to its root"
            if own.get("capabilities", {}).get("drop") != ["ALL"] or own.get("capabilities", {}).get("add"):
                yield f"{pod.name}/{container['name']} keeps capabilities"


def images_are_pinned(documents: list[Document]) -> Iterator[str]:
    for pod in pods(documents):
        if pod.owner == "PodTemplate":
            continue
        for container in pod.containers:
            image = container.get("image", "")
            tag = re.search(r"(@sha256:[0-9a-f]{64}|:[^:/]+)$", image)
            if tag is None or tag.group() == ":latest":
                yield f"{pod.name}/{container['name']} takes whatever {image or 'nothing'} is at the time"


def selectors_match(documents: list[Document]) -> Iterator[str]:
    everything = list(pods(documents))
    for document in of_kind(documents, "Deployment", "StatefulSet"):
        if not matches(document["spec"]["selector"], document["spec"]["template"]["metadata"]["labels"]):
            yield f"{document['metadata']['name']} does not select its own pods"
        owners = [pod for pod in everything if matches(document["spec"]["selector"], pod.labels)]
        if len(owners) > 1:
            yield f"{document['metadata']['name']} selects pods of {sorted(pod.name for pod in owners)}"
    for document in of_kind(documents, "Service"):
        name, spec = document["metadata"]["name"], document["spec"]
        found = [pod for pod in everything if matches({"matchLabels": spec["selector"]}, pod.labels)]
        if not found:
            yield f"the service {name} has no pods"
        for pod in found:
            ports = {port["name"] for container in pod.containers for port in container.get("ports", [])}
            for port in spec["ports"]:
                if port["targetPort"] not in ports:
                    yield f"{pod.name} has no port {port['targetPort']} for the service {name}"
    for document in of_kind(documents, "NetworkPolicy"):
        for selector in _pod_selectors(document):
            if not any(matches(selector, pod.labels) for pod in everything):
                yield f"the policy {document['metadata']['name']} names no pod by {selector}"


def references_resolve(documents: list[Document]) -> Iterator[str]:
    there = {
        kind: {document["metadata"]["name"] for document in of_kind(documents, kind)}
        for kind in ("ConfigMap", "Secret", "ServiceAccount", "PersistentVolumeClaim", "PriorityClass")
    }
    there["Secret"] |= EXTERNAL_SECRETS | {
        document["spec"]["target"]["name"] for document in of_kind(documents, "ExternalSecret")
    }
    for pod in pods(documents):
        for kind, name in _references(pod):
            if name not in there[kind]:
                yield f"{pod.name} needs the {kind} {name}, which is nowhere"
    for document in of_kind(documents, "RoleBinding"):
        roles = {role["metadata"]["name"] for role in of_kind(documents, "Role")}
        if document["roleRef"]["name"] not in roles:
            yield f"{document['metadata']['name']} binds no role"
        for subject in document["subjects"]:
            if subject["name"] not in there["ServiceAccount"]:
                yield f"{document['metadata']['name']} binds nobody"
    services = {
        document["metadata"]["name"]: {port["name"] for port in document["spec"]["ports"]}
        for document in of_kind(documents, "Service")
    }
    for document in of_kind(documents, "Ingress"):
        for rule in document["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                if service["port"]["name"] not in services.get(service["name"], set()):
                    yield f"{document['metadata']['name']} leads to {service['name']}, which is nowhere"
        secrets = {entry["secretName"] for entry in document["spec"]["tls"]}
        if missing := secrets - there["Secret"]:
            yield f"{document['metadata']['name']} has no certificate {missing}"


def variables_are_known(documents: list[Document]) -> Iterator[str]:
    ours = set()
    for pod in pods(documents):
        for container in pod.containers:
            if pod.owner != "PodTemplate" and "/ettametta-" not in container["image"]:
                continue
            for row in container.get("env", []):
                if row["name"] not in KNOWN_VARIABLES:
                    yield f"{pod.name} sets {row['name']}, which nothing reads"
            for source in container.get("envFrom", []):
                ours.add((source.get("configMapRef") or source["secretRef"])["name"])
    for document in of_kind(documents, "ConfigMap", "Secret", "ExternalSecret"):
        if document["metadata"]["name"] not in ours:
            continue
        names = [row["secretKey"] for row in document.get("spec", {}).get("data", [])] or document.get(
            "data", {}
        )
        for name in names:
            if name not in KNOWN_VARIABLES:
                yield f"{document['metadata']['name']} sets {name}, which nothing reads"


def one_daemon_at_a_time(documents: list[Document]) -> Iterator[str]:
    spec = named(documents, "Deployment", "ettametta-daemon")["spec"]
    if spec.get("replicas") != 1 or spec.get("strategy", {}).get("type") != "Recreate":
        yield "two daemons could run at a time"


def autoscalers_have_their_target_to_themselves(documents: list[Document]) -> Iterator[str]:
    for document in of_kind(documents, "HorizontalPodAutoscaler", "ScaledObject"):
        target = document["spec"]["scaleTargetRef"]
        found = [
            other for other in of_kind(documents, target["kind"])
            if other["metadata"]["name"] == target["name"]
        ]  # fmt: skip
        if not found:
            yield f"{document['metadata']['name']} scales {target['name']}, which is nowhere"
        for other in found:
            if "replicas" in other["spec"]:
                yield f"{target['name']} is set back to {other['spec']['replicas']} by every roll-out"


def budgets_let_nodes_be_drained(documents: list[Document]) -> Iterator[str]:
    for document in of_kind(documents, "PodDisruptionBudget"):
        name, spec = document["metadata"]["name"], document["spec"]
        found = [
            other for other in of_kind(documents, "Deployment", "StatefulSet")
            if matches(spec["selector"], other["spec"]["template"]["metadata"]["labels"])
        ]  # fmt: skip
        if not found:
            yield f"the budget {name} is of nothing"
        for other in found:
            if spec.get("minAvailable", 0) >= other["spec"].get("replicas", 2):
                yield f"the budget {name} holds up every drain"


def rights_are_named_one_by_one(documents: list[Document]) -> Iterator[str]:
    if of_kind(documents, "ClusterRole", "ClusterRoleBinding"):
        yield "something has rights beyond the namespace"
    for document in of_kind(documents, "Role"):
        for rule in document["rules"]:
            if (
                "*" in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
                or "secrets" in rule["resources"]
            ):
                yield f"{document['metadata']['name']} may do anything with {rule['resources']}"
    bound = {
        subject["name"] for document in of_kind(documents, "RoleBinding") for subject in document["subjects"]
    }
    for pod in pods(documents):
        if (
            pod.spec.get("automountServiceAccountToken") is True
            and pod.spec.get("serviceAccountName") not in bound
        ):
            yield f"{pod.name} carries a token that is good for nothing"
        if pod.spec.get("automountServiceAccountToken") is None and pod.owner != "Run":
            yield f"{pod.name} does not say whether it carries a token"


def nothing_flows_unless_it_is_named(documents: list[Document]) -> Iterator[str]:
    denials = [
        document for document in of_kind(documents, "NetworkPolicy")
        if document["spec"]["podSelector"] == {}
        and sorted(document["spec"]["policyTypes"]) == ["Egress", "Ingress"]
        and not document["spec"].get("ingress") and not document["spec"].get("egress")
    ]  # fmt: skip
    if not denials:
        yield "no policy denies what is not named"
    namespace = of_kind(documents, "Namespace")[0]
    if namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
        yield "the namespace does not enforce the restricted standard"


def classes_are_in_their_order(documents: list[Document]) -> Iterator[str]:
    values = {
        document["metadata"]["name"]: document["value"] for document in of_kind(documents, "PriorityClass")
    }
    if sorted(values, key=lambda name: -values[name]) != list(PRIORITY_ORDER):
        yield f"the classes stand in another order: {values}"
    quotas = {
        value
        for document in of_kind(documents, "ResourceQuota")
        for scope in document["spec"].get("scopeSelector", {}).get("matchExpressions", [])
        for value in scope["values"]
    }
    if missing := {"ettametta-priority", "ettametta-standard", "ettametta-background"} - quotas:
        yield f"there is no GPU quota for {sorted(missing)}"


INVARIANTS: dict[str, Invariant] = {
    invariant.__name__: invariant
    for invariant in (
        everything_has_requests_and_memory_limits,
        services_are_probed,
        pods_have_no_more_rights_than_they_need,
        images_are_pinned,
        selectors_match,
        references_resolve,
        variables_are_known,
        one_daemon_at_a_time,
        autoscalers_have_their_target_to_themselves,
        budgets_let_nodes_be_drained,
        rights_are_named_one_by_one,
        nothing_flows_unless_it_is_named,
        classes_are_in_their_order,
    )
}


def matches(selector: Document, labels: dict[str, str]) -> bool:
    """Whether a label selector takes a pod; an empty one takes all."""
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    return all(labels.get(row["key"]) in row["values"] for row in selector.get("matchExpressions", []))


def may_reach(documents: list[Document], source: Pod, target: Pod, port: int) -> bool:
    """Whether the policies let one pod of the namespace speak to another at a port, at both ends."""
    return _open(documents, "Egress", source, target, port) and _open(
        documents, "Ingress", target, source, port
    )


def _open(documents: list[Document], direction: str, at: Pod, other: Pod, port: int) -> bool:
    side, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    rules = [
        rule
        for document in of_kind(documents, "NetworkPolicy")
        if direction in document["spec"]["policyTypes"]
        and matches(document["spec"]["podSelector"], at.labels)
        for rule in document["spec"].get(side, [])
    ]
    return any(
        port in [entry["port"] for entry in rule.get("ports", [])]
        and any(
            "namespaceSelector" not in peer
            and "podSelector" in peer
            and matches(peer["podSelector"], other.labels)
            for peer in rule.get(peers, [])
        )
        for rule in rules
    )


def _pod_selectors(policy: Document) -> Iterator[Document]:
    yield policy["spec"]["podSelector"]
    for side, peers in (("ingress", "from"), ("egress", "to")):
        for rule in policy["spec"].get(side, []):
            for peer in rule.get(peers, []):
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    yield peer["podSelector"]


def _references(pod: Pod) -> Iterator[tuple[str, str]]:
    if name := pod.spec.get("serviceAccountName"):
        yield "ServiceAccount", name
    if name := pod.spec.get("priorityClassName"):
        yield "PriorityClass", name
    for volume in pod.spec.get("volumes", []):
        sources: tuple[tuple[str, str, str], ...] = (
            ("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName"),
            ("PersistentVolumeClaim", "persistentVolumeClaim", "claimName"),
        )  # fmt: skip
        for kind, key, field in sources:
            if key in volume:
                yield kind, volume[key][field]
    for container in pod.containers:
        yield from _environment_references(container)


def _environment_references(container: Document) -> Iterator[tuple[str, Any]]:
    for source in container.get("envFrom", []):
        for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            if key in source and not source[key].get("optional"):
                yield kind, source[key]["name"]
    for row in container.get("env", []):
        for kind, key in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
            if key in row.get("valueFrom", {}) and not row["valueFrom"][key].get("optional"):
                yield kind, row["valueFrom"][key]["name"]
