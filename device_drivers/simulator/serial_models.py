"""The models of serial sensors: each says what it measured in the bytes of the real one."""

import struct
from collections.abc import Mapping
from dataclasses import fields

from device_drivers.modbus import rtu
from device_drivers.modbus.plan import FORMATS, FUNCTIONS, in_order
from device_drivers.serial_line import ld2410, ld2450, mhz19b, plantower, sds011, shdlc, sps30, text_line
from device_drivers.simulator.sensor import SensorModel
from firmware_profiles.modbus import BIT_TABLES, Register
from firmware_profiles.profile import FirmwareProfile

_LONGEST_REQUEST = 256


def _word(value: float) -> int:
    """As a sensor has it whose number ends at 16 bits."""
    return min(max(round(value), 0), 0xFFFF)


class Pms5003(SensorModel):
    """Its fan turns from power-up on: until the warm-up is over it counts too little."""

    interval_s = 1.0
    states_firmware = True
    firmware = "151"
    _WARM_UP_S = 30.0

    def frame(self, values: Mapping[str, float], on_for_s: float) -> bytes:
        share = min(1.0, on_for_s / self._WARM_UP_S)
        known = {field.name for field in fields(plantower.Frame)}
        said = {channel: _word(value * share) for channel, value in values.items() if channel in known}
        standard = {f"{name}_standard": said[name] for name in ("pm1", "pm2_5", "pm10") if name in said}
        return plantower.encode(plantower.Frame(**{**standard, **said}, version=int(self.firmware)))


class Sds011(SensorModel):
    """In active mode."""

    interval_s = 1.0

    def frame(self, values: Mapping[str, float], on_for_s: float) -> bytes:
        return sds011.encode(_word(10 * values["pm2_5"]), _word(10 * values["pm10"]), 0x60A1)


class Ld2410(SensorModel):
    """Basic reports. Distances in cm, as its profile has them."""

    interval_s = 0.1

    def frame(self, values: Mapping[str, float], on_for_s: float) -> bytes:
        moving, still = (round(values.get(name, 0)) for name in ("moving_distance", "still_distance"))
        state = (moving > 0) | (still > 0) << 1
        return ld2410.encode(state, moving, 60 * (moving > 0), still, 40 * (still > 0), moving or still)


class Ld2450(SensorModel):
    """Targets that walk in a row before it."""

    interval_s = 0.1

    def frame(self, values: Mapping[str, float], on_for_s: float) -> bytes:
        count = min(ld2450.TARGETS, max(0, round(values["targets"])))
        return ld2450.encode([(500 * number - 700, 1500 + 400 * number, 20) for number in range(count)])


class MhZ19b(SensorModel):
    """It answers one request."""

    def __init__(self) -> None:
        self._heard = b""

    def answer(self, data: bytes, values: Mapping[str, float], on_for_s: float) -> bytes:
        self._heard = (self._heard + data)[-len(mhz19b.REQUEST) :]
        if self._heard != mhz19b.REQUEST:
            return b""
        self._heard = b""
        return mhz19b.encode(_word(values["carbon_dioxide"]))


class Sps30(SensorModel):
    """It measures once a second after it was told to, until it loses power."""

    states_firmware = True
    firmware = "2.2"
    _PERIOD_S = 1.0

    def __init__(self) -> None:
        self.is_measuring = False
        self._heard = b""
        self._given = -1

    def forget(self) -> None:
        self.is_measuring = False
        self._given = -1

    def answer(self, data: bytes, values: Mapping[str, float], on_for_s: float) -> bytes:
        self._heard = (self._heard + data)[-_LONGEST_REQUEST:]
        for command, content in ((sps30.VERSION, b""), (sps30.START, sps30.FLOATS), (sps30.READ, b"")):
            if self._heard.endswith(shdlc.request(sps30.ADDRESS, command, content)):
                self._heard = b""
                return self._to(command, values, on_for_s)
        return b""

    def _to(self, command: int, values: Mapping[str, float], on_for_s: float) -> bytes:
        if command == sps30.VERSION:
            major, _, minor = self.firmware.partition(".")
            return shdlc.reply(sps30.ADDRESS, command, 0, bytes([int(major), int(minor or 0), 0, 7, 0, 2, 0]))
        if command == sps30.START:
            state, self.is_measuring = (sps30.ALREADY if self.is_measuring else 0), True
            return shdlc.reply(sps30.ADDRESS, command, state)
        if not self.is_measuring:
            return shdlc.reply(sps30.ADDRESS, command, sps30.ALREADY)
        number = int(on_for_s / self._PERIOD_S)
        if number == self._given:
            return sps30.encode()
        self._given = number
        return sps30.encode(*(values.get(channel, 0.0) for channel in sps30.CHANNELS))


class ModbusUnit(SensorModel):
    """One unit of a line that several share, with the registers of a profile. It refuses what it does not have.

    written: what it was told, as (address, value), in order.
    """

    def __init__(self, profile: FirmwareProfile, unit: int) -> None:
        self.unit = unit
        self.written: list[tuple[int, int]] = []
        self._profile = profile
        self._heard = b""

    def answer(self, data: bytes, values: Mapping[str, float], on_for_s: float) -> bytes:
        # Requests of these functions have eight bytes; whatever else is on the line is not for this unit.
        self._heard = (self._heard + data)[-_LONGEST_REQUEST:]
        request = self._heard[-8:]
        if len(request) < 8 or request[0] != self.unit or rtu.crc16(request[:-2]) != request[-2:]:
            return b""
        self._heard = b""
        _, function, address, count = struct.unpack(">BBHH", request[:-2])
        if function == rtu.WRITE_SINGLE:
            if not self.is_written(address, count):
                return rtu.exception_reply(self.unit, function, 2)
            self.written.append((address, count))
            return request
        if function not in FUNCTIONS.values():
            return rtu.exception_reply(self.unit, function, 1)
        table = self.table(function, values)
        found = [table.get(address + n) for n in range(count)]
        words = [word for word in found if word is not None]
        if len(words) < len(found):
            return rtu.exception_reply(self.unit, function, 2)
        return rtu.read_reply(self.unit, function, _packed(function, words))

    def is_written(self, address: int, value: int) -> bool:
        """Whether it takes this write: all that its profile tells it before it measures."""
        modbus = self._profile.modbus
        return modbus is not None and any(address == write.address for write in modbus.begin)

    def table(self, function: int, values: Mapping[str, float]) -> dict[int, int]:
        """Its registers or bits that this function reads, by address."""
        table: dict[int, int] = {}
        for name, channel in self._profile.channels.items():
            register = channel.register_
            if register is not None and FUNCTIONS[register.table] == function and name in values:
                raw = (values[name] - channel.offset) / channel.scale
                for n, word in enumerate(_words(register, raw)):
                    # Several bits may share a register.
                    table[register.address + n] = table.get(register.address + n, 0) | word
        return table


class Scd30(ModbusUnit):
    """It states its firmware, and has nothing to say until it is told to measure. After a cut the real one goes on by
    itself; this one forgets, as early firmware and other units do."""

    states_firmware = True
    firmware = "3.66"
    boot_s = 2.0

    def __init__(self, profile: FirmwareProfile, unit: int = 0x61) -> None:
        super().__init__(profile, unit)
        self.is_measuring = False

    def forget(self) -> None:
        self.is_measuring = False

    def is_written(self, address: int, value: int) -> bool:
        self.is_measuring |= super().is_written(address, value)
        return self.is_measuring

    def table(self, function: int, values: Mapping[str, float]) -> dict[int, int]:
        if function != rtu.READ_HOLDING:
            return {}
        major, _, minor = self.firmware.partition(".")
        measured = values if self.is_measuring else dict.fromkeys(values, 0.0)
        return {0x20: int(major) << 8 | int(minor or 0), 0x27: int(self.is_measuring)} | super().table(
            function, measured
        )


class TextNode(SensorModel):
    """A microcontroller that prints lines as a profile says."""

    interval_s = 1.0

    def __init__(self, profile: FirmwareProfile, firmware: str = "") -> None:
        assert profile.line is not None, "a profile with a table [line]"
        self._profile = profile
        self._layout = profile.line
        self.firmware = firmware
        self.states_firmware = profile.line.firmware_field is not None

    def frame(self, values: Mapping[str, float], on_for_s: float) -> bytes:
        said = {} if self._layout.firmware_field is None else {self._layout.firmware_field: self.firmware}
        for name, channel in self._profile.channels.items():
            if channel.field is not None and name in values:
                said[channel.field] = f"{(values[name] - channel.offset) / channel.scale:.3f}"
        return text_line.write_line(self._layout, said)


def _words(register: Register, raw: float) -> list[int]:
    if register.table in BIT_TABLES:
        return [int(raw != 0)]
    if register.bit is not None:
        return [int(raw != 0) << register.bit]
    form = FORMATS[register.type]
    packed = struct.pack(form, raw if form[-1] in "fd" else round(raw))
    ordered = in_order(register, packed)
    return [int.from_bytes(ordered[begins : begins + 2], "big") for begins in range(0, len(ordered), 2)]


def _packed(function: int, words: list[int]) -> bytes:
    if function not in (rtu.READ_COILS, rtu.READ_DISCRETE):
        return struct.pack(f">{len(words)}H", *words)
    bits = sum(bit << n for n, bit in enumerate(words))
    return bits.to_bytes((len(words) + 7) // 8, "little")
