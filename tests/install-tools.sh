#!/bin/sh
# Debian's packages that some tests want: installed where that is allowed, named where it is not.
# Those tests are then skipped, with a count at the end.
set -u
missing=
for pair in mosquitto:mosquitto dbus-daemon:dbus faketime:faketime systemd-analyze:systemd kill:procps; do
    # The file, not a word of the shell of the same name, such as kill.
    found=
    for folder in /bin /usr/bin /sbin /usr/sbin /usr/local/bin /usr/local/sbin; do
        [ -x "$folder/${pair%%:*}" ] && found=yes
    done
    [ -n "$found" ] || missing="$missing ${pair#*:}"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing for the tests:$missing"
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing; } \
        >/tmp/heal7-iot-tools.log 2>&1 && exit 0
    tail -5 /tmp/heal7-iot-tools.log
fi
echo "tests that want these Debian packages are skipped:$missing"
echo "  to run them: sudo apt-get install$missing"
