#!/bin/sh
# Installs what the tests need beyond Python packages, and only what is missing: the programs of Postgres, PgBouncer,
# Redis and Prometheus, of which only the checker of rules is used, a browser, and strace for a slow disk. The tests start their own servers from
# them; no service is set up or started here.
set -eu

has_postgres() {
  for directory in $(printf %s "$PATH" | tr ':' ' ') /usr/lib/postgresql/*/bin; do
    if [ -x "$directory/initdb" ] && [ -x "$directory/postgres" ]; then return 0; fi
  done
  return 1
}
has_pgbouncer() { command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ]; }
has_redis() { command -v redis-server >/dev/null || [ -x /usr/bin/redis-server ]; }
has_browser() { command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; }

has_promtool() { command -v promtool >/dev/null; }
has_strace() { command -v strace >/dev/null; }

missing=""
has_postgres || missing="$missing postgresql"
has_pgbouncer || missing="$missing pgbouncer"
has_redis || missing="$missing redis-server"
has_browser || missing="$missing chromium"
has_promtool || missing="$missing prometheus"
has_strace || missing="$missing strace"
if [ -z "$missing" ]; then exit 0; fi

if ! command -v apt-get >/dev/null; then
  echo "Missing, and there is no apt-get here:$missing. Put their programs on PATH;" \
    "until then the tests that need them are skipped." >&2
  exit 0
fi

as_root=""
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
    echo "Missing, and only root can install it: run 'apt-get install$missing'." \
      "Until then the tests that need it are skipped." >&2
    exit 0
  fi
  as_root="sudo -n env DEBIAN_FRONTEND=noninteractive"
fi
export DEBIAN_FRONTEND=noninteractive

# Debian's packages would otherwise start a server each: a file of this policy says no while they are installed.
policy=/usr/sbin/policy-rc.d
made_policy=""
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
  $as_root chmod +x "$policy"
  made_policy=yes
fi
trap 'if [ -n "$made_policy" ]; then $as_root rm -f "$policy"; fi' EXIT

echo "Installing for the tests:$missing ..."
$as_root apt-get update -qq
case "$missing" in *postgresql*)
  $as_root apt-get install -y -qq --no-install-recommends postgresql-common >/dev/null
  $as_root sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
  ;;
esac
# shellcheck disable=SC2086 (one word a package)
$as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
