"""Runs the guest: QEMU by software alone, with this machine's files to read and nothing to write but one folder.

It has no network. `tests/install-tools.sh` unpacks QEMU, a kernel and BlueZ into the environment, unless the machine
has them; nothing of them is installed.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.sources import ROOT
from tests.peers.bluetooth_guest.initramfs import initramfs
from tests.peers.needs import needs

# It takes about 40 s on an idle machine.
TIMEOUT_S = 300.0

_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/pulseaudio")
_FIRMWARE = ("usr/share/qemu", "usr/share/seabios")


def report(folder: Path) -> dict[str, Any]:
    """What the guest's program wrote; fails with what was on its screen where it wrote nothing.

    Skips where the machine has no such guest.
    """
    tools = Path(needs("bluetooth-guest"))
    (kernel,) = tools.glob("boot/vmlinuz-*")
    (modules,) = tools.glob("lib/modules/*")
    libraries = ":".join(str(tools / place) for place in _LIBRARIES)
    (folder / "initramfs").write_bytes(initramfs(tools / "bin/busybox", modules))
    (folder / "run").write_text(_script(_program(tools, "bluetoothd"), libraries))
    command: list[str | Path] = [
        _program(tools, "qemu-system-x86_64"),
        *(part for place in _FIRMWARE if (tools / place).exists() for part in ("-L", tools / place)),
        "-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "1024", "-nodefaults", "-nographic",
        "-no-reboot", "-serial", "stdio", "-nic", "none",
        "-kernel", kernel, "-initrd", folder / "initramfs", "-append", "console=ttyS0 quiet panic=1 tsc=reliable",
        "-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
        "-virtfs", f"local,path={folder},mount_tag=guest,security_model=none",
    ]  # fmt: skip
    screen = folder / "screen"
    with screen.open("wb") as out:
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_S,
                check=False,
                env=os.environ | {"LD_LIBRARY_PATH": libraries},
            )
        except subprocess.TimeoutExpired:
            pytest.fail(f"the guest did not end within {TIMEOUT_S:g} s\n{_last(screen)}")
    written = folder / "report.json"
    if not written.exists():
        pytest.fail(f"the guest wrote no report\n{_last(screen)}")
    found: dict[str, Any] = json.loads(written.read_text())
    return found


def _script(bluetoothd: Path, libraries: str) -> str:
    """What the guest runs as its first process. Only bluetoothd is given the unpacked libraries: Python has its own."""
    return f"""cd {shlex.quote(str(ROOT))}
export PATH={shlex.quote(os.environ["PATH"])}:/usr/sbin:/sbin HOME=/run TMPDIR=/run PYTHONDONTWRITEBYTECODE=1
/run/busybox ip link set lo up
{shlex.quote(sys.executable)} -m tests.peers.bluetooth_guest.guest \\
    {shlex.quote(str(bluetoothd))} {shlex.quote(libraries)} /guest/report.json
/run/busybox poweroff -f
"""


def _program(tools: Path, name: str) -> Path:
    """Unpacked only where the machine does not have it."""
    places = [tools / "usr/bin", tools / "usr/libexec/bluetooth", "/usr/bin", "/usr/libexec/bluetooth"]
    found = shutil.which(name, path=":".join(map(str, places)))
    assert found is not None, f"{tools} is complete, and there is no {name}"
    return Path(found)


def _last(screen: Path) -> str:
    return "\n".join(screen.read_text(errors="replace").splitlines()[-60:])
