#!/bin/sh
# Makes the GPU worker's environment in the directory named first: the packages of the `gpu` extra at the versions of
# constraints-gpu.txt, and this package without its own dependencies. Used by the Makefile and by the GPU image.
set -eu
cd "$(dirname "$0")/.."
directory=$1
# An environment that was interrupted while it was made has no pip yet.
"$directory/bin/python" -m pip --version >/dev/null 2>&1 || "${PYTHON:-python3}" -m venv --clear "$directory"
pip="$directory/bin/python -m pip --disable-pip-version-check"
echo "Installing the GPU worker's packages into $directory ..."
# Torch brings the CUDA libraries of its build along. The rest is pinned whole, so that nothing has to be resolved.
# shellcheck disable=SC2086 (a command and its options)
$pip install -qq --constraint constraints-gpu.txt torch
# shellcheck disable=SC2086
$pip install -qq --no-deps --requirement constraints-gpu.txt
# shellcheck disable=SC2086
$pip install -qq --no-deps --editable .
