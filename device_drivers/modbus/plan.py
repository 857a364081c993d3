"""In how few requests the channels of a profile are read, and what each reply says. No clock, no I/O."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from device_drivers.modbus.rtu import READ_HOLDING, READ_INPUT
from firmware_profiles.modbus import Register
from firmware_profiles.profile import FirmwareProfile

_FUNCTIONS = {"holding": READ_HOLDING, "input": READ_INPUT}
_FORMATS = {"int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "float32": ">f"}


@dataclass(frozen=True, slots=True)
class Read:
    """One request: so many registers from an address on, and the channels whose numbers are among them."""

    function: int
    address: int
    count: int
    channels: Mapping[str, Register]

    def values(self, registers: bytes) -> dict[str, float]:
        """What the registers of its reply say, by channel."""
        return {name: _number(register, registers, self.address) for name, register in self.channels.items()}


def reads_of(profile: FirmwareProfile) -> list[Read]:
    """The fewest requests for all channels of a profile with Modbus, each within what the device gives at once."""
    assert profile.modbus is not None
    reads: list[Read] = []
    for table, function in _FUNCTIONS.items():
        wanted = sorted(
            (
                (channel.register_, name)
                for name, channel in profile.channels.items()
                if channel.register_ is not None and channel.register_.table == table
            ),
            key=lambda found: found[0].address,
        )
        group: dict[str, Register] = {}
        begins = ends = 0
        for register, name in wanted:
            after = max(ends, register.address + register.width)
            is_near = register.address <= ends + profile.modbus.most_gap
            if group and not (is_near and after - begins <= profile.modbus.most_registers):
                reads.append(Read(function, begins, ends - begins, group))
                group = {}
            if not group:
                begins, after = register.address, register.address + register.width
            group[name] = register
            ends = after
        if group:
            reads.append(Read(function, begins, ends - begins, group))
    return reads


def _number(register: Register, registers: bytes, first: int) -> float:
    begins = 2 * (register.address - first)
    raw = registers[begins : begins + 2 * register.width]
    if register.width == 2 and register.words == "low_first":
        raw = raw[2:] + raw[:2]
    (number,) = struct.unpack(_FORMATS[register.type], raw)
    return float(number)
