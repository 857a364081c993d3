"""Encodes RuuviTag's data format 5 (RAWv2).

Format: https://docs.ruuvi.com/communication/bluetooth-advertisements/data-format-5-rawv2
"""

import struct
from collections.abc import Mapping

COMPANY = 0x0499
"""Whose manufacturer data this is."""

DATA_FORMAT = 5

_INVALID_ACCELERATION = -32768


def encode(values: Mapping[str, float], *, address: str, counter: int, data_format: int = DATA_FORMAT) -> bytes:
    """temperature (°C), humidity (%), pressure (hPa), voltage (V); movement_counter is 255, for "invalid", if left out.

    counter: its lower 16 bits number the measurement. data_format: another one says that these bytes mean otherwise.
    """
    millivolts = round(values["voltage"] * 1000)
    return struct.pack(
        ">BhHHhhhHBH",
        data_format,
        round(values["temperature"] * 200),
        round(values["humidity"] * 400),
        round(values["pressure"] * 100) - 50000,
        *[_INVALID_ACCELERATION] * 3,
        (millivolts - 1600) << 5 | 22,  # sent with +4 dBm
        round(values.get("movement_counter", 255)),
        counter & 0xFFFF,
    ) + bytes.fromhex(address.replace(":", ""))
