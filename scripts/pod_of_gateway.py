"""The dev overlay on stdin, the gateway's pod on stdout, for a machine without the overlay's servers.

Used by `play_manifests.sh`. What is kept is what the kernel enforces: user, root, capabilities, limits, volumes.
"""

import sys

import yaml

documents = list(yaml.safe_load_all(sys.stdin))
(gateway,) = (
    document
    for document in documents
    if document["kind"] == "Deployment" and document["metadata"]["name"] == "ettametta-gateway"
)
template = gateway["spec"]["template"]
container = template["spec"]["containers"][0]
# Without secrets there are no addresses of servers: the state is SQLite, the store a directory, both in the home.
container["envFrom"] = [source for source in container["envFrom"] if "configMapRef" in source]
container["imagePullPolicy"] = "Never"
# On the host's network, where ports are not mapped.
del container["ports"]
# podman runs probes as timers of systemd, which a container does not have; whoever plays this asks instead.
for probe in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle"):
    container.pop(probe, None)
(settings,) = (
    document
    for document in documents
    if document["kind"] == "ConfigMap" and document["metadata"]["name"] == "ettametta-settings"
)
for name in ("topologySpreadConstraints", "serviceAccountName"):
    template["spec"].pop(name)
pod = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "ettametta", "labels": template["metadata"]["labels"]},
    "spec": template["spec"],
}
yaml.safe_dump_all([settings, pod], sys.stdout)
