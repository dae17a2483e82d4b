#!/bin/sh
# Installs what the tests need beyond Python packages, and only what is missing: the Postgres server programs.
# The tests run a server of their own from them; no service is set up or started here.
set -eu

for directory in $(printf %s "$PATH" | tr ':' ' ') /usr/lib/postgresql/*/bin; do
  if [ -x "$directory/initdb" ] && [ -x "$directory/postgres" ]; then
    exit 0
  fi
done

if ! command -v apt-get >/dev/null; then
  echo "PostgreSQL is missing and there is no apt-get here. Put initdb and postgres on PATH;" \
    "until then the tests that need them are skipped." >&2
  exit 0
fi

as_root=""
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
    echo "PostgreSQL is missing and can only be installed by root: run 'apt-get install postgresql'." \
      "Until then the tests that need it are skipped." >&2
    exit 0
  fi
  as_root="sudo -n env DEBIAN_FRONTEND=noninteractive"
fi
export DEBIAN_FRONTEND=noninteractive

echo "Installing PostgreSQL for the tests ..."
$as_root apt-get update -qq
$as_root apt-get install -y -qq --no-install-recommends postgresql-common >/dev/null
# Debian's package would otherwise make a cluster and start it on port 5432.
$as_root sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
$as_root apt-get install -y -qq --no-install-recommends postgresql >/dev/null
