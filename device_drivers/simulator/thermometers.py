"""Encodes what Govee H5075, ThermoPro TP357 and Inkbird IBS-TH send: no packet number, and the device known by name.

ThermoPro and Inkbird put their values where the number of a company belongs. The formats are those of govee-ble,
thermopro-ble and inkbird-ble; nobody publishes them.
"""

from collections.abc import Mapping

GOVEE_COMPANY = 0xEC88


def encode_govee(values: Mapping[str, float], *, error: bool = False) -> dict[int, bytes]:
    """Manufacturer data of an H5075, called `GVH5075_…`: temperature (°C), humidity, battery (%); error: its own."""
    tenths = round(abs(values["temperature"]) * 10)
    both = tenths * 1000 + round(values["humidity"] * 10)
    if values["temperature"] < 0:
        both |= 0x800000
    charge = round(values["battery"]) | (0x80 if error else 0)
    return {GOVEE_COMPANY: b"\0" + both.to_bytes(3, "big") + bytes([charge, 0])}


def encode_thermopro(values: Mapping[str, float]) -> dict[int, bytes]:
    """Manufacturer data of a TP357, called `TP357 (…)`: temperature (°C), humidity (%), battery (1, 50 or 100 %)."""
    level = {1: 0, 50: 1, 100: 2}[round(values["battery"])]
    temperature = round(values["temperature"] * 10).to_bytes(2, "little", signed=True)
    return _split(b"\xc2" + temperature + bytes([round(values["humidity"]), level]) + b"\x2c")


def encode_inkbird(values: Mapping[str, float]) -> dict[int, bytes]:
    """Manufacturer data of an IBS-TH, called `sps`: temperature (°C), humidity, battery (%)."""
    temperature = round(values["temperature"] * 100).to_bytes(2, "little", signed=True)
    humidity = round(values["humidity"] * 100).to_bytes(2, "little")
    return _split(temperature + humidity + bytes([0, 0, 0, round(values["battery"]), 8]))


def _split(data: bytes) -> dict[int, bytes]:
    return {int.from_bytes(data[:2], "little"): data[2:]}
