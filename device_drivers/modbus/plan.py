"""In how few requests the channels of a profile are read, and what each reply says. No clock, no I/O."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from device_drivers.modbus.rtu import READ_COILS, READ_DISCRETE, READ_HOLDING, READ_INPUT
from firmware_profiles.modbus import BIT_TABLES, Register
from firmware_profiles.profile import FirmwareProfile

FUNCTIONS = {"holding": READ_HOLDING, "input": READ_INPUT, "coil": READ_COILS, "discrete": READ_DISCRETE}
FORMATS = {
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "float32": ">f",
    "int64": ">q",
    "uint64": ">Q",
    "float64": ">d",
}


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
    for table, function in FUNCTIONS.items():
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


def in_order(register: Register, raw: bytes) -> bytes:
    """The words of a number from its own order to the protocol's, or back."""
    if register.words == "high_first":
        return raw
    return b"".join(raw[begins : begins + 2] for begins in range(len(raw) - 2, -1, -2))


def _number(register: Register, registers: bytes, first: int) -> float:
    begins = register.address - first
    if register.table in BIT_TABLES:
        # Eight to a byte, the first of them lowest (Modbus Application Protocol V1.1b3, section 6.1).
        return float(registers[begins // 8] >> begins % 8 & 1)
    raw = registers[2 * begins : 2 * (begins + register.width)]
    if register.bit is not None:
        return float(int.from_bytes(raw, "big") >> register.bit & 1)
    (number,) = struct.unpack(FORMATS[register.type], in_order(register, raw))
    return float(number)
