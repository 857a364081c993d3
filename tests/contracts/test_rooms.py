"""Who may know whom, read from the source: not from what happens to load."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("firmware_profiles", "device_drivers", "gateway", "ingest_server", "heal7_iot")

MAY_KNOW: dict[str, tuple[str, ...]] = {
    "firmware_profiles": (),
    "device_drivers": ("firmware_profiles",),
    "gateway": ("device_drivers", "firmware_profiles"),
    # The link knows what a reading is, and nothing else: somebody could take it out and build another end with it.
    "gateway/link": ("device_drivers.reading",),
    # `gateway.link` and `gateway.daemon` only; of the drivers, readings and pure codecs, never a transport.
    "ingest_server": (
        "gateway.link",
        "gateway.daemon",
        "device_drivers.reading",
        "device_drivers.serial_line.plantower",
        "device_drivers.interpretation",
        "firmware_profiles",
    ),
    "heal7_iot": ("firmware_profiles", "device_drivers", "gateway", "ingest_server"),
}

HOMES: dict[str, tuple[str, ...]] = {
    "aiomqtt": ("gateway/link/session.py",),
    "paho": ("gateway/link/manual_ack_session.py",),
    "psycopg": ("ingest_server/storage/", "heal7_iot/demo/"),
    "apscheduler": ("ingest_server/jobs.py",),
    "numpy": ("ingest_server/",),
    "bleak": ("device_drivers/ble/",),
    "habluetooth": ("device_drivers/ble/",),
    "bthome_ble": ("device_drivers/ble/",),
    "sensor_state_data": ("device_drivers/ble/",),
    "dbus_fast": ("device_drivers/ble/link.py", "device_drivers/simulator/"),
    "cryptography": ("device_drivers/simulator/",),
    "serial": ("device_drivers/transport.py",),
    "serialx": ("device_drivers/transport.py",),
    "msgpack": ("gateway/link/wire.py",),
    "zstandard": ("gateway/link/wire.py",),
    "typer": ("gateway/commands.py", "ingest_server/commands/", "heal7_iot/"),
    "rich": ("gateway/commands.py", "ingest_server/commands/", "heal7_iot/"),
    "psutil": ("heal7_iot/",),
    "pydantic": ("",),
}


def sources(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at whatever depth; `from a import b` gives `a.b` where that is a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                below = ROOT / node.module.replace(".", "/") / alias.name
                module = below.is_dir() or below.with_suffix(".py").exists()
                yield f"{node.module}.{alias.name}" if module else node.module


def room_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return "gateway/link" if relative.parts[:2] == ("gateway", "link") else relative.parts[0]


def is_below(module: str, allowed: str) -> bool:
    return module == allowed or module.startswith(allowed + ".")


@pytest.mark.parametrize("path", sources(*ROOMS), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_knows_only_the_rooms_it_may(path: Path) -> None:
    room = room_of(path)
    own = room.replace("/", ".")
    for module in imports(path):
        if module.split(".")[0] in ROOMS and not is_below(module, own):
            assert any(is_below(module, allowed) for allowed in MAY_KNOW[room]), f"{path} imports {module}"


@pytest.mark.parametrize("path", sources(*ROOMS), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_library_has_one_home(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    for module in imports(path):
        top = module.split(".")[0]
        if top in sys.stdlib_module_names or top in ROOMS:
            continue
        assert any(relative.startswith(home) for home in HOMES.get(top, ())), f"{relative} imports {top}"


def test_a_package_s_init_is_a_docstring() -> None:
    for path in sources(*ROOMS, "tests", "bench"):
        if path.name == "__init__.py":
            body = ast.parse(path.read_text()).body
            assert len(body) == 1, path
            assert isinstance(body[0], ast.Expr), path
            assert isinstance(body[0].value, ast.Constant), path


def test_no_room_for_what_has_no_name() -> None:
    for path in sources(*ROOMS):
        assert path.stem not in {"utils", "util", "common", "helpers", "misc"}, path
        assert not {"utils", "common", "helpers"} & set(path.relative_to(ROOT).parts), path


def test_systemd_is_data() -> None:
    # An `__init__.py` there would shadow python-systemd.
    assert not list((ROOT / "systemd").rglob("*.py"))
