"""Sensors that are asked, without the sensors: they answer on a pseudo-terminal, within the event loop."""

import asyncio
import os
import struct
from collections.abc import Callable
from pathlib import Path

from device_drivers.modbus import rtu
from device_drivers.serial_line import mhz19b, shdlc, sps30
from device_drivers.simulator.terminal import EmulatedLine


class AnsweringLine(EmulatedLine):
    """Answers from `serve` on until it is unplugged. answer: to what came since the last request; b"": none (yet)."""

    def __init__(self, directory: Path, product: str, serial: str, answer: Callable[[bytes], bytes]) -> None:
        # Before it is plugged in, which first takes out what there was.
        self._serving: tuple[asyncio.AbstractEventLoop, int] | None = None
        super().__init__(directory, product, serial)
        self.answer = answer
        self._heard = b""

    def serve(self) -> None:
        """Must be called within an event loop."""
        near = self.near
        assert near is not None, "plug it in before"
        self._serving = asyncio.get_running_loop(), near
        self._serving[0].add_reader(near, self._hear, near)

    def hang_up(self) -> None:
        if self._serving is not None:
            loop, near = self._serving
            loop.remove_reader(near)
            self._serving = None
        super().hang_up()

    def _hear(self, near: int) -> None:
        self._heard += os.read(near, 4096)
        answered = self.answer(self._heard)
        if answered:
            self._heard = b""
            self.write(answered)


class EmulatedMhZ19b(AnsweringLine):
    """ppm: what it answers next."""

    def __init__(self, directory: Path, serial: str, ppm: int = 500) -> None:
        super().__init__(directory, "MH-Z19B", serial, self._answered)
        self.ppm = ppm

    def _answered(self, heard: bytes) -> bytes:
        return mhz19b.encode(self.ppm) if heard.endswith(mhz19b.REQUEST) else b""


class EmulatedSps30(AnsweringLine):
    """values: of its next measurements, the oldest first; without any it has nothing new."""

    def __init__(self, directory: Path, serial: str, version: tuple[int, int] = (2, 2)) -> None:
        super().__init__(directory, "SPS30", serial, self._answered)
        self.version = version
        self.values: list[tuple[float, ...]] = []
        self.is_measuring = False

    def _answered(self, heard: bytes) -> bytes:
        for command, answer in ((sps30.VERSION, self._version), (sps30.START, self._start), (sps30.READ, self._read)):
            content = b"\x01\x03" if command == sps30.START else b""
            if heard.endswith(shdlc.request(sps30.ADDRESS, command, content)):
                return answer()
        return b""

    def _version(self) -> bytes:
        return shdlc.reply(sps30.ADDRESS, sps30.VERSION, 0, bytes([*self.version, 0, 7, 0, 2, 0]))

    def _start(self) -> bytes:
        state, self.is_measuring = (0x43 if self.is_measuring else 0), True
        return shdlc.reply(sps30.ADDRESS, sps30.START, state)

    def _read(self) -> bytes:
        if not self.is_measuring:
            return shdlc.reply(sps30.ADDRESS, sps30.READ, 0x43)
        return sps30.encode(*self.values.pop(0)) if self.values else sps30.encode()


class EmulatedModbus(AnsweringLine):
    """Several units on one line. registers: by unit, function and address; a unit that is in none of them is silent.

    written: every register that was written, in order, as (unit, address, value).
    """

    def __init__(self, directory: Path, serial: str, registers: dict[tuple[int, int, int], int]) -> None:
        super().__init__(directory, "RS485", serial, self._answered)
        self.registers = registers
        self.silent: set[int] = set()
        self.written: list[tuple[int, int, int]] = []
        self.asked: list[bytes] = []

    def _answered(self, heard: bytes) -> bytes:
        # Requests are of eight bytes, and an emulated line brings them whole.
        request = heard[-8:]
        if len(request) < 8 or rtu.crc16(request[:-2]) != request[-2:]:
            return b""
        self.asked.append(request)
        unit, function, address, count = struct.unpack(">BBHH", request[:-2])
        if unit in self.silent or all(known != unit for known, _, _ in self.registers):
            return b""
        if function == rtu.WRITE_SINGLE:
            self.written.append((unit, address, count))
            return request
        found = [self.registers.get((unit, function, address + n)) for n in range(count)]
        if None in found:
            return rtu.exception_reply(unit, function, 2)
        return rtu.read_reply(unit, function, b"".join(struct.pack(">H", word) for word in found if word is not None))
