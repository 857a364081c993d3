"""The guest's first file system: busybox, a script, and the kernel modules that it loads.

Archive format: https://docs.kernel.org/driver-api/early-userspace/buffer-format.html ("newc").
"""

import gzip
import lzma
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

# The host's files over 9p with an overlay, a Bluetooth controller made of a file, and what bluetoothd encrypts with.
# Bluetooth's own security manager asks for cmac and aes by name, which no dependency says.
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "cmac", "algif_hash", "algif_skcipher", "hci_vhci", "uhid")

_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
_DIRECTORY, _FILE = 0o040755, 0o100755

_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /lower /rw /new
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod /modules/$module || echo "no module $module"; done
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro host /lower
/bin/busybox mount -t tmpfs tmpfs /rw
/bin/busybox mkdir /rw/upper /rw/work
/bin/busybox mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /new
/bin/busybox mkdir -p /new/proc /new/sys /new/dev /new/run /new/tmp /new/guest
for place in proc sys dev; do /bin/busybox mount --move /$place /new/$place; done
/bin/busybox mount -t tmpfs tmpfs /new/run
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288 guest /new/guest
/bin/busybox cp /bin/busybox /new/run/busybox
exec /bin/busybox switch_root /new /run/busybox sh /guest/run
"""


def initramfs(busybox: Path, kernel_modules: Path) -> bytes:
    """kernel_modules: `lib/modules/VERSION`. Raises LookupError for a module that is neither there nor built in."""
    ordered = load_order(MODULES, kernel_modules)
    files = {f"modules/{name}": data for name, data in ordered.items()}
    files |= {"bin/busybox": busybox.read_bytes(), "init": _INIT.format(modules=" ".join(ordered)).encode()}
    return gzip.compress(archive(["bin", "modules", "dev"], files), compresslevel=1)


def load_order(wanted: Iterable[str], kernel_modules: Path) -> dict[str, bytes]:
    """The modules and what they depend on, each after its own dependencies, by name."""
    paths = {_name(path.name.split(".ko")[0]): path for path in (kernel_modules / "kernel").rglob("*.ko*")}
    built_in = {_name(Path(line).stem) for line in (kernel_modules / "modules.builtin").read_text().splitlines()}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in found or name in built_in:
            return
        data = _read(paths[name])
        depends = _DEPENDS.search(data)
        for other in (depends[1].decode() if depends else "").split(","):
            if other:
                add(_name(other))
        found[name] = data

    for name in wanted:
        add(name)
    return found


def archive(directories: Iterable[str], files: Mapping[str, bytes]) -> bytes:
    """Everything belongs to root and may be run."""
    entries = [(name, _DIRECTORY, b"") for name in directories] + [(name, _FILE, data) for name, data in files.items()]
    packed = bytearray()
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        packed += b"070701" + b"".join(b"%08X" % value for value in fields) + name.encode() + b"\0"
        packed += bytes(-len(packed) % 4) + data
        packed += bytes(-len(packed) % 4)
    return bytes(packed)


def _name(name: str) -> str:
    return name.replace("-", "_")


def _read(path: Path) -> bytes:
    # Debian 13 compresses them, and busybox loads only those that are not.
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
