#!/bin/sh
# Runs pods of the dev overlay with `podman kube play`, from the image that scripts/build_images.sh made: as this user, with
# the read-only root and the limits of the manifests. One machine, no scheduler: podman knows no Jobs, quotas or policies, and
# the servers of the overlay are other people's images, so the pods use SQLite and a directory. For root.
set -eu
cd "$(dirname "$0")/.."
storage=$(cd "${IMAGES_DIR:-.ettametta/images}" && pwd)
export CONTAINERS_CONF="$storage/containers.conf"
podman="podman --root $storage/storage --runroot $storage/run --storage-driver ${STORAGE_DRIVER:-vfs}"
python=${PYTHON:-.venv/bin/python}

pod="$storage/pod.yaml"
# shellcheck disable=SC2086 (commands and their options)
trap '$podman kube down "$pod" >/dev/null 2>&1 || true' EXIT
kubectl kustomize k8s/overlays/dev | $python scripts/pod_of_gateway.py >"$pod"
$podman kube play --quiet --network=host "$pod"
for attempt in $(seq 60); do
  if answer=$($python -c "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=5).read().decode())" 2>/dev/null); then
    echo "ready after $attempt tries: $answer"
    $podman ps --pod --format '{{.Names}} {{.Status}}'
    container=$($podman ps --format '{{.Names}}' | grep -- '-gateway$')
    $podman exec "$container" sh -c 'id; touch /app/x 2>&1; grep -E "^(CapEff|NoNewPrivs|Seccomp):" /proc/1/status' || true
    exit 0
  fi
  sleep 2
done
echo "The gateway's pod did not get ready:" >&2
$podman ps --all --format '{{.Names}} {{.Status}}' >&2
exit 1
