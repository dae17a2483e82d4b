#!/bin/sh
# Builds the images with podman where no image registry is reached: on a base that debootstrap makes. A release is built from
# the bases that the Dockerfiles name instead. For root. `scripts/build_images.sh [pipelines|gpu|servers] ...`
# `servers` stands in for the images of other projects that the dev overlay has: Debian's Postgres, PgBouncer and Redis and
# moto's S3. BASE names an image that is there already; BUILD_OPTIONS goes to every build.
set -eu
cd "$(dirname "$0")/.."
storage=${IMAGES_DIR:-.ettametta/images}
mkdir -p "$storage"
storage=$(cd "$storage" && pwd)
base=${BASE:-localhost/ettametta-base:bookworm}

# What podman is started with, here and in play_overlay.py: containers inside a container need runc, no systemd for their
# groups, and limits that this root may set. Layers are mounted where the kernel can, else copied.
if [ ! -x "$storage/podman" ]; then
  mkdir -p "$storage/try/lower" "$storage/try/upper" "$storage/try/work" "$storage/try/merged"
  layers=vfs
  if mount -t overlay overlay -o "lowerdir=$storage/try/lower,upperdir=$storage/try/upper,workdir=$storage/try/work" \
    "$storage/try/merged" 2>/dev/null; then
    umount "$storage/try/merged"
    layers=overlay
  fi
  cp /etc/hosts "$storage/hosts"
  cat >"$storage/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
base_hosts_file = "$storage/hosts"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
  cat >"$storage/podman" <<PODMAN
#!/bin/sh
CONTAINERS_CONF="$storage/containers.conf" exec podman --root "$storage/storage" --runroot "$storage/run" \\
  --storage-driver ${STORAGE_DRIVER:-$layers} "\$@"
PODMAN
  chmod +x "$storage/podman"
fi
podman="$storage/podman"

if ! $podman image exists "$base"; then
  if [ ! -e "$storage/base/usr/lib/os-release" ]; then
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$storage/base" \
      "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
  fi
  tar -C "$storage/base" -c . | $podman import --quiet - "$base"
fi

# Wheels come from where this machine's pip gets them; inside, pip asks only their folder, so that nothing of this machine's
# settings and certificates is in an image. The base has this machine's minor version of Python, or they would not fit.
gather() {
  python3 -m pip wheel -qq --wheel-dir "$storage/wheels" "$@"
}
# Requirements alone: the project is not built here, and leaves nothing in the working tree. Debian's Python is older than
# 3.11.3, where redis wants async-timeout.
gather_project() {
  rm -rf "$storage/source"
  mkdir -p "$storage/source/ettametta_pipelines"
  touch "$storage/source/ettametta_pipelines/__init__.py"
  cp setup.py "$storage/source"
  gather --constraint constraints.txt "$storage/source[tracing]" setuptools wheel async-timeout==5.0.1
  rm -f "$storage"/wheels/ettametta_pipelines-*
}
mkdir -p "$storage/wheels"
printf '[global]\nno-index = true\nfind-links = /wheels\n' >"$storage/pip.conf"

build() { # name, Dockerfile, options
  name=$1 file=$2
  shift 2
  # shellcheck disable=SC2086 (options)
  $podman build --quiet --pull=never --isolation=chroot --network=host --format=docker ${BUILD_OPTIONS:-} \
    --volume "$storage/wheels:/wheels:ro" --volume "$storage/pip.conf:/etc/pip.conf:ro" \
    "$@" --file "$file" --tag "localhost/ettametta-$name:dev" .
  $podman image inspect --format '{{.RepoTags}} user {{.Config.User}}, {{.Size}} bytes' "localhost/ettametta-$name:dev"
}
for image in ${*:-pipelines}; do
  case $image in
  pipelines)
    gather_project
    build pipelines Dockerfile --build-arg "BASE=$base"
    ;;
  gpu)
    gather_project
    gather --constraint constraints-gpu.txt torch
    gather --no-deps --requirement constraints-gpu.txt
    build gpu Dockerfile.gpu --build-arg "CUDA_BASE=$base"
    ;;
  servers)
    gather --constraint constraints.txt 'moto[s3,server]'
    build servers scripts/Dockerfile.servers --build-arg "BASE=$base"
    ;;
  *) echo "There is no image $image." >&2; exit 2 ;;
  esac
done
