#!/bin/sh
# Builds the images with podman or buildah where no image registry is reached: on a base that debootstrap makes. A release is
# built from the bases that the Dockerfiles name instead. For root. `scripts/build_images.sh [pipelines|gpu] ...`
# BUILD_OPTIONS goes to every build, for a mirror's certificates and the like.
set -eu
cd "$(dirname "$0")/.."
storage=${IMAGES_DIR:-.ettametta/images}
mkdir -p "$storage"
storage=$(cd "$storage" && pwd)

# Containers inside a container: runc, no systemd for the groups, and limits that this root may set.
cat >"$storage/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
export CONTAINERS_CONF="$storage/containers.conf"
podman="podman --root $storage/storage --runroot $storage/run --storage-driver ${STORAGE_DRIVER:-vfs}"

if ! $podman image exists localhost/ettametta-base:bookworm; then
  if [ ! -x "$storage/base/bin/sh" ]; then
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$storage/base" \
      http://deb.debian.org/debian
  fi
  tar -C "$storage/base" -c . | $podman import --quiet - localhost/ettametta-base:bookworm
fi

build() {
  # shellcheck disable=SC2086 (commands and their options)
  $podman build --quiet --pull=never --isolation=chroot --network=host --format=docker ${BUILD_OPTIONS:-} \
    --build-arg "$3=localhost/ettametta-base:bookworm" --file "$2" --tag "localhost/ettametta-$1:dev" .
  $podman image inspect --format '{{.RepoTags}} user {{.Config.User}}, {{.Size}} bytes' "localhost/ettametta-$1:dev"
}
for image in ${*:-pipelines}; do
  case $image in
  pipelines) build pipelines Dockerfile BASE ;;
  gpu) build gpu Dockerfile.gpu CUDA_BASE ;;
  *) echo "There is no image $image." >&2; exit 2 ;;
  esac
done
