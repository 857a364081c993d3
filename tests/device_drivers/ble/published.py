"""The published advertisements, read where they are: they are not part of the project."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from device_drivers.ble.advert import Advert, uuid
from tests.peers.needs import wants

VECTORS = Path(__file__).resolve().parents[4] / "shared" / "vectors" / "ble_advertisements.json"

_BINARY_NAMES = {"power": "power_on", "battery": "battery_low", "moisture": "moisture_detected", "gas": "gas_detected"}

# Units that we bring to one; what Home Assistant calls mbar is hPa.
_OURS = {"mV": (0.001, "V"), "mm": (0.001, "m"), "lb": (0.45359237, "kg"), "mL": (0.001, "L"), "mbar": (1.0, "hPa")}


class Published(NamedTuple):
    """values: what it says, in our units and under our names; unit by channel. others: texts, marks for "invalid"."""

    name: str
    advert: Advert
    bindkey: bytes | None
    values: dict[str, float]
    units: dict[str, str]
    events: int
    others: int


def published(*decoders: str) -> list[Any]:
    """As parameters of a test; of some decoders, or all."""
    if not VECTORS.exists():
        reason = wants("published advertisements", "../shared/vectors beside the repository is missing")
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    vectors = [v for v in json.loads(VECTORS.read_text()) if not decoders or v["decoder"] in decoders]
    assert vectors
    return [pytest.param(_read(vector), id=vector["name"]) for vector in vectors]


def _read(vector: dict[str, Any]) -> Published:
    advert = Advert(
        vector["address"],
        vector["local_name"] or "",
        vector["rssi"],
        {_full(key): bytes.fromhex(data) for key, data in vector["service_data"].items()},
        {int(key, 16): bytes.fromhex(data) for key, data in vector["manufacturer_data"].items()},
        tuple(_full(key) for key in vector["service_uuids"]),
        "hci0",
    )
    values: dict[str, float] = {}
    units: dict[str, str] = {}
    events = others = 0
    # The second probe of this thermometer has channels of its own.
    probe = "_remote" if vector["name"] in ("govee-ble:gvh5178", "govee-ble:gvh5178_error") else ""
    for said in vector["expected"]:
        quantity, value, unit = said["quantity"], said["value"], said["unit"]
        if unit == "event":
            events += 1
        elif unit == "bool":
            channel = _BINARY_NAMES.get(quantity, quantity)
            values[channel], units[channel] = float(value), ""
        elif not isinstance(value, int | float):
            others += 1
        elif quantity != "packet_id":
            precipitation = quantity == "precipitation"
            factor, ours = (1.0, unit) if precipitation else _OURS.get(unit, (1.0, unit or ""))
            values[quantity + probe], units[quantity + probe] = value * factor, ours
    key = bytes.fromhex(vector["bindkey"]) if "bindkey" in vector else None
    return Published(vector["name"], advert, key, values, units, events, others)


def _full(key: str) -> str:
    return uuid(int(key, 16)) if len(key) == 4 else key
