"""Emulated Bluetooth LE sensors of each family, which fail on demand: silent, drifting, stuck, rebooted, updated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from device_drivers.simulator import atc, bthome, mibeacon, ruuvi, thermometers
from device_drivers.simulator.bluez import EmulatedBlueZ, EmulatedDevice

_ADDRESS = "A4:C1:38:8D:18:B2"
BINDKEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
"""Of the kinds that encrypt."""


@dataclass(frozen=True, slots=True)
class Packet:
    """What one advertisement carries."""

    services: Mapping[int, bytes] = field(default_factory=dict)
    manufacturers: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kind:
    """A model. encode: of values, address and packet number. updated: the same by a firmware that nobody knows.

    None where the family never states a firmware. name: as the sensor calls itself. channels: what it measures.
    """

    encode: Callable[[Mapping[str, float], str, int], Packet]
    updated: Callable[[Mapping[str, float], str, int], Packet] | None = None
    name: str | None = None
    channels: tuple[str, ...] = ("temperature", "humidity", "battery")
    numbered: bool = True
    bindkey: bytes | None = None


def _bthome(values: Mapping[str, float], address: str, number: int) -> Packet:
    return Packet({bthome.SERVICE: bthome.encode(values, number & 0xFF)})


def _bthome_updated(values: Mapping[str, float], address: str, number: int) -> Packet:
    data = bthome.encode(values, number & 0xFF)
    return Packet({bthome.SERVICE: bytes([data[0] + 0x20]) + data[1:]})


def _bthome_encrypted(values: Mapping[str, float], address: str, number: int) -> Packet:
    return Packet({bthome.SERVICE: bthome.encode_encrypted(values, bindkey=BINDKEY, address=address, counter=number)})


def _xiaomi(values: Mapping[str, float], address: str, number: int) -> Packet:
    return Packet({mibeacon.SERVICE: mibeacon.encode(values, address=address, counter=number)})


def _xiaomi_updated(values: Mapping[str, float], address: str, number: int) -> Packet:
    return Packet({mibeacon.SERVICE: mibeacon.encode(values, address=address, counter=number, product=0xFFFE)})


def _xiaomi_encrypted(values: Mapping[str, float], address: str, number: int) -> Packet:
    return Packet({mibeacon.SERVICE: mibeacon.encode(values, address=address, counter=number, bindkey=BINDKEY)})


def _ruuvi(values: Mapping[str, float], address: str, number: int) -> Packet:
    return Packet(manufacturers={ruuvi.COMPANY: ruuvi.encode(values, address=address, counter=number)})


def _ruuvi_updated(values: Mapping[str, float], address: str, number: int) -> Packet:
    return Packet(manufacturers={ruuvi.COMPANY: ruuvi.encode(values, address=address, counter=number, data_format=8)})


def _atc1441(values: Mapping[str, float], address: str, number: int) -> Packet:
    return Packet({atc.SERVICE: atc.encode_atc1441(values, address=address, counter=number)})


def _pvvx(values: Mapping[str, float], address: str, number: int) -> Packet:
    return Packet({atc.SERVICE: atc.encode_pvvx(values, address=address, counter=number)})


def _pvvx_encrypted(values: Mapping[str, float], address: str, number: int) -> Packet:
    data = atc.encode_pvvx_encrypted(values, address=address, counter=number, bindkey=BINDKEY)
    return Packet({atc.SERVICE: data})


def _govee(values: Mapping[str, float], address: str, number: int) -> Packet:
    return Packet(manufacturers=thermometers.encode_govee(values))


def _thermopro(values: Mapping[str, float], address: str, number: int) -> Packet:
    return Packet(manufacturers=thermometers.encode_thermopro(values))


def _inkbird(values: Mapping[str, float], address: str, number: int) -> Packet:
    return Packet(manufacturers=thermometers.encode_inkbird(values))


_WITH_VOLTAGE = ("temperature", "humidity", "battery", "voltage")
_CLIMATE = ("temperature", "humidity")

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "bthome": Kind(_bthome, _bthome_updated),
        "bthome-encrypted": Kind(_bthome_encrypted, bindkey=BINDKEY),
        "xiaomi": Kind(_xiaomi, _xiaomi_updated, channels=_CLIMATE),
        "xiaomi-encrypted": Kind(_xiaomi_encrypted, channels=_CLIMATE, bindkey=BINDKEY),
        "ruuvi": Kind(_ruuvi, _ruuvi_updated, "Ruuvi 18B2", ("temperature", "humidity", "pressure", "voltage")),
        "atc1441": Kind(_atc1441, name="ATC_8D18B2", channels=_WITH_VOLTAGE),
        "pvvx": Kind(_pvvx, name="ATC_8D18B2", channels=_WITH_VOLTAGE),
        "pvvx-encrypted": Kind(_pvvx_encrypted, name="ATC_8D18B2", bindkey=BINDKEY),
        "govee": Kind(_govee, name="GVH5075_18B2", numbered=False),
        "thermopro": Kind(_thermopro, name="TP357 (18B2)", numbered=False),
        "inkbird": Kind(_inkbird, name="sps", numbered=False),
    }
)
"""The models that can be emulated."""


class EmulatedBleSensor:
    """One sensor, heard by every adapter that is named. Its faults are attributes, to be set at any time."""

    def __init__(
        self, bluez: EmulatedBlueZ, kind: str, address: str = _ADDRESS, adapters: Sequence[str] = ("",)
    ) -> None:
        """kind: one of `KINDS`. adapters: an empty name is BlueZ's first."""
        self.kind = KINDS[kind]
        self.address = address
        self.silent = False
        """It sends nothing."""
        self.drift = 0.0
        """What is added to the temperature (°C) with each measurement, over and over."""
        self.stuck = False
        """It sends, under new packet numbers, what it measured last."""
        self._drifted = 0.0
        self._number = 0
        self._values: Mapping[str, float] = {}
        self._updated = False
        self._devices: list[EmulatedDevice] = [
            bluez.device(address, self.kind.name, adapter=adapter) for adapter in adapters
        ]

    def reboot(self) -> None:
        """Its packet number starts again."""
        self._number = 0

    def update(self) -> None:
        """From now on it runs a firmware that nobody knows. Raises ValueError for a kind that states none."""
        if self.kind.updated is None:
            raise ValueError("this kind never says what firmware it runs")
        self._updated = True

    async def measure(self, **values: float) -> bool:
        """Sends those of `values` that this kind measures in a new packet; whether some adapter heard it."""
        self._number += 1
        self._drifted += self.drift
        if not (self.stuck and self._values):
            self._values = {channel: values[channel] for channel in self.kind.channels}
        return await self.repeat()

    async def repeat(self, *adapters: int) -> bool:
        """Sends its last packet again. adapters: positions of those that hear it; all if none is given."""
        if self.silent:
            return False
        encode = self.kind.updated if self._updated and self.kind.updated else self.kind.encode
        said = dict(self._values)
        said["temperature"] += self._drifted
        packet = encode(said, self.address, self._number)
        heard = [
            await device.advertise(packet.services, manufacturer_data=packet.manufacturers)
            for position, device in enumerate(self._devices)
            if not adapters or position in adapters
        ]
        return any(heard)
