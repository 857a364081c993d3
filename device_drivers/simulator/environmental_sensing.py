"""Encodes Bluetooth's environmental characteristics, and builds an emulated sensor that has them.

Formats: GATT Specification Supplement, section of each characteristic.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from device_drivers.simulator.bluez import EmulatedBlueZ, EmulatedDevice, full_uuid
from device_drivers.simulator.gatt_server import READ_NOTIFY, EmulatedCharacteristic

SERVICE = 0x181A
_BATTERY_SERVICE = 0x180F
_DEVICE_INFORMATION = 0x180A
_FIRMWARE_REVISION = 0x2A26


@dataclass(frozen=True, slots=True)
class _Format:
    """`size` bytes, little-endian, of value × `steps`. unknown: the bits that say so."""

    uuid: int
    size: int
    steps: float = 1.0
    signed: bool = False
    unknown: int | None = None


_FORMATS = {
    "temperature": _Format(0x2A6E, 2, 100, signed=True, unknown=0x8000),  # °C
    "humidity": _Format(0x2A6F, 2, 100, unknown=0xFFFF),  # %
    "pressure": _Format(0x2A6D, 4, 1000),  # hPa
    "illuminance": _Format(0x2AFB, 3, 100, unknown=0xFFFFFF),  # lx
    "carbon_dioxide": _Format(0x2B8C, 2, unknown=0xFFFF),  # ppm
    "volatile_organic_compounds": _Format(0x2BE7, 2, unknown=0xFFFF),  # ppb
    "battery": _Format(0x2A19, 1),  # %
}


def encode(channel: str, value: float | None) -> bytes:
    """The value of a characteristic; None for "not known". Raises KeyError and OverflowError for what has no form."""
    form = _FORMATS[channel]
    if value is None:
        if form.unknown is None:
            raise KeyError(f"{channel} has no way to say that it is not known")
        return form.unknown.to_bytes(form.size, "little")
    return round(value * form.steps).to_bytes(form.size, "little", signed=form.signed)


class EmulatedEnvironmentalSensor:
    """A sensor with the channels of `values`; it is found once it advertises."""

    def __init__(
        self, bluez: EmulatedBlueZ, address: str, values: Mapping[str, float | None], firmware: str | None = None
    ) -> None:
        """firmware: of its Device Information; None where it has none."""
        self.device: EmulatedDevice = bluez.device(address)
        self.gatt = self.device.gatt
        services: dict[int, str] = {}
        self.characteristics: dict[str, EmulatedCharacteristic] = {}
        for channel, value in values.items():
            number = _BATTERY_SERVICE if channel == "battery" else SERVICE
            if number not in services:
                services[number] = self.gatt.service(full_uuid(number))
            self.characteristics[channel] = self.gatt.characteristic(
                services[number], full_uuid(_FORMATS[channel].uuid), encode(channel, value), READ_NOTIFY
            )
        if firmware is not None:
            information = self.gatt.service(full_uuid(_DEVICE_INFORMATION))
            self.gatt.characteristic(information, full_uuid(_FIRMWARE_REVISION), firmware.encode())

    async def advertise(self) -> bool:
        """Whether some scan heard it."""
        return await self.device.advertise({})

    def set_value(self, channel: str, value: float | None) -> bool:
        """What it measures from now on; whether somebody was notified."""
        return self.gatt.set_value(self.characteristics[channel], encode(channel, value))
