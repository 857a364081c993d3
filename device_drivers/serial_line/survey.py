"""What speaks on each serial line of this machine: listened to at one speed after another, asked only where wanted."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from device_drivers.driver import Clock
from device_drivers.errors import LinkLost
from device_drivers.serial_line.port import Adapter, SerialPort
from device_drivers.serial_line.recognition import (
    LISTEN_RATES,
    MODBUS_RATES,
    PROBES,
    Probe,
    Recognised,
    unit_probe,
)
from device_drivers.serial_line.scan import ask, listen

ANSWER_S = 0.3
"""Patience with each question: sensors answer within 0.1 s, Modbus units at 4800 baud within 0.2 s."""


@dataclass(slots=True)
class LineSurvey:
    """One line. doing: what it is about, empty once done. found: what was heard, at `baudrate`; answered: what answered
    there. fault: why it could not be looked at."""

    adapter: Adapter
    doing: str = "waiting"
    baudrate: int = 0
    found: Recognised | None = None
    answered: list[Probe] = field(default_factory=list)
    fault: str = ""

    async def run(self, clock: Clock, *, units: Iterable[int] | None, listen_s: float) -> None:
        """Listens until it is sure; where nothing is heard and `units` are given (of Modbus, perhaps none), it asks."""
        port = SerialPort(self.adapter.device, self.adapter.port or self.adapter.device)
        try:
            await self._listen(port, clock, listen_s)
            if self.found is None and units is not None:
                await self._ask(port, clock, list(units))
        except LinkLost as error:
            self.fault = str(error)
        finally:
            self.doing = ""

    async def _listen(self, port: SerialPort, clock: Clock, listen_s: float) -> None:
        for baudrate in LISTEN_RATES:
            self.doing = f"listening at {baudrate} baud"
            heard = await listen(port, baudrate, listen_s, clock)
            if heard and heard[0].is_sure:
                self.found, self.baudrate = heard[0], baudrate
                return

    async def _ask(self, port: SerialPort, clock: Clock, units: list[int]) -> None:
        """Sensors on lines of their own first: a bus is asked unit by unit, at one speed after another."""
        for baudrate in sorted({probe.baudrate for probe in PROBES}):
            self.doing = f"asking at {baudrate} baud"
            self.answered = await ask(port, baudrate, PROBES, ANSWER_S, clock)
            if self.answered:
                self.baudrate = baudrate
                return
        for baudrate in MODBUS_RATES:
            for unit in units:
                self.doing = f"asking Modbus unit {unit} at {baudrate} baud"
                self.answered += await ask(port, baudrate, [unit_probe(unit, baudrate)], ANSWER_S, clock)
            if self.answered:
                self.baudrate = baudrate
                return

    def kind(self) -> str:
        """As a configuration names it; empty where nothing was recognised."""
        if self.found is not None:
            return self.found.kind
        return self.answered[0].kind if self.answered else ""

    def told(self) -> str:
        """In a sentence, for a person."""
        if self.fault:
            return self.fault
        if self.doing:
            return f"{self.doing} …"
        if self.found is not None:
            fields = f", with {', '.join(self.found.fields)}" if self.found.fields else ""
            layout = f" ({self.found.layout.format})" if self.found.layout else ""
            return f"{self.found.kind}{layout} at {self.baudrate} baud{fields}"
        if self.answered:
            units = [str(probe.unit) for probe in self.answered if probe.unit]
            return f"{self.kind()} at {self.baudrate} baud{', unit ' + ', '.join(units) if units else ''} (answered)"
        return "nothing recognised; sensors that only answer are found with --probe"

    def lines(self) -> str:
        """Of the configuration, to be pasted; empty where nothing was recognised."""
        kind = self.kind()
        if not kind:
            return ""
        said = ["[[driver]]", f'kind = "{kind}"']
        if self.adapter.port is None:
            said.append('port = "…"  # nothing names this adapter lastingly: give it a link by a udev rule')
        else:
            said.append(f'port = "{self.adapter.port}"')
        if kind == "modbus":
            said.append(f"baudrate = {self.baudrate}")
            for probe in self.answered:
                said += [
                    "",
                    "[[driver.device]]",
                    f"unit = {probe.unit}",
                    f'device = "unit-{probe.unit}"',
                    'model = "…"  # one of `heal7-iot profiles list`, or a profile of your own',
                ]
        else:
            said.append(f'device = "{kind}-{self.adapter.device.rpartition("/")[2].lower()}"')
            if kind == "line":
                said += [
                    f"baudrate = {self.baudrate}",
                    'model = "…"  # of a profile: heal7-iot profiles new VENDOR/MODEL --driver line',
                ]
        return "\n".join(said) + "\n"
