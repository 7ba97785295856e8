#!/usr/bin/env bash
# Puts Debian's PostgreSQL on a CI machine that has none, for the tests that want a real server (they start one of their own).
#
# Does nothing where WONDER_TEST_POSTGRES_URL names a server, or its programs are there. Where it cannot install them it says
# why, and succeeds: those tests are skipped then, and say so.
set -euo pipefail

SECONDS_MAX=180 # for each of the two calls; mirrors that hang must not use up the time of the tests

say() {
    printf '%s\n' "== $*" >&2
}

without() { # REASON
    say "no PostgreSQL: $*; the tests that want one are skipped"
    exit 0
}

apt() { # COMMAND... : quiet, unless it fails
    local told
    told="$(timeout --kill-after=10 "$SECONDS_MAX" env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 \
        apt-get --quiet=2 -o DPkg::Lock::Timeout=60 "$@" 2>&1 </dev/null)" ||
        without "apt-get $1 failed (exit $?): $(printf '%s' "$told" | grep -E '^E:' | head -n 1)"
}

[ -z "${WONDER_TEST_POSTGRES_URL:-}" ] || exit 0
if command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
    exit 0
fi
command -v apt-get >/dev/null || without "there is no apt-get here to install it with"
[ "$(id -u)" = 0 ] || without "only root can install it"

say "installing PostgreSQL for its tests (WONDER_TEST_POSTGRES_URL would name one instead)"
settings=/etc/postgresql-common/createcluster.conf
if [ ! -e "$settings" ]; then # a server that nobody asked for is not made, and not started
    mkdir -p "${settings%/*}"
    printf 'create_main_cluster = false\n' >"$settings"
fi
apt update
apt install --yes --no-install-recommends postgresql
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || without "the package holds no initdb"
say "PostgreSQL is installed ($SECONDS s)"
