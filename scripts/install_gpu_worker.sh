#!/bin/sh
# Makes the GPU worker's environment in the directory named first: the packages of the `gpu` extra at the versions of
# constraints-gpu.txt, and this package without its own dependencies. Used by the Makefile and by the GPU image.
set -eu
cd "$(dirname "$0")/.."
directory=$1
[ -x "$directory/bin/python" ] || "${PYTHON:-python3}" -m venv "$directory"
pip="$directory/bin/python -m pip --disable-pip-version-check"
echo "Installing the GPU worker's packages into $directory ..."
# Everything is pinned, so nothing is resolved, and a package that pins others differently does not get in the way.
# shellcheck disable=SC2086 (a command and its options)
$pip install -qq --no-deps --requirement constraints-gpu.txt
# shellcheck disable=SC2086
$pip install -qq --no-deps --editable .
