"""A scan for a person's eyes, for the clipboard, and for programs."""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from device_drivers.ble.recognition import Recognition, Verdict, driver_lines
from gateway.scan.scanning import Scan

_VALUES_SHOWN = 4


def tables(scan: Scan, *, unknown: bool) -> Group:
    """unknown: also Bluetooth devices that nobody here reads, of which every room is full."""
    parts: list[Table | Text] = [_lines(scan), _radio(scan, unknown=unknown)]
    parts += [Text(_printable(f"{adapter}: {fault}"), style="red") for adapter, fault in scan.radio.faults.items()]
    hidden = sum(not _is_of_use(device) for device in scan.radio.devices.values())
    if hidden and not unknown:
        parts.append(Text(f"{hidden} more devices are heard that nobody here reads; --all shows them", style="dim"))
    return Group(*parts)


def pasteable(scan: Scan) -> str:
    """Lines for the gateway's configuration, of all that is new and can be read; empty where nothing is."""
    parts = [lines for line in scan.lines if (lines := line.lines())]
    devices = [device.lines for device in _sorted(scan) if device.lines]
    if devices:
        parts.append("\n".join([driver_lines(scan.adapters), *devices]))
    return "\n".join(parts)


def as_json(scan: Scan) -> dict[str, Any]:
    """serial: each line. bluetooth: each device. config: what to paste, empty where it is there already or unusable."""
    serial = [
        {
            "device": line.adapter.device,
            "port": line.adapter.port,
            "product": line.adapter.product,
            "usb": str(line.adapter.usb) if line.adapter.usb else None,
            "kind": line.kind() or None,
            "baudrate": line.baudrate or None,
            "units": [probe.unit for probe in line.answered if probe.unit],
            "fields": list(line.found.fields) if line.found else [],
            "says": line.told(),
            "config": line.lines(),
        }
        for line in scan.lines
    ]
    serial += [{"device": device, "configured": kind} for device, kind in scan.taken.items()]
    bluetooth = [
        {
            "address": device.address,
            "address_kind": device.address_kind.value,
            "name": device.name,
            "rssi": device.rssi,
            "adapters": sorted(scan.radio.heard_by[device.address]),
            "family": device.family or None,
            "model": device.model or None,
            "firmware": device.firmware or None,
            "profile": device.profile or None,
            "decodable": device.verdict is Verdict.DECODABLE,
            "says": device.verdict.value,
            "values": dict(device.values),
            "configured": device.device,
            "config": device.lines,
        }
        for device in _sorted(scan)
    ]
    return {"serial": serial, "bluetooth": bluetooth, "faults": dict(scan.radio.faults)}


def _lines(scan: Scan) -> Table:
    table = Table(title="Serial lines", title_justify="left", box=None, pad_edge=False)
    for column in ("line", "adapter", "what speaks there"):
        table.add_column(column, overflow="fold")
    for line in scan.lines:
        _add(table, line.adapter.device, _adapter(line.adapter.product, line.adapter.usb), line.told())
    for device, kind in scan.taken.items():
        _add(table, device, "", f"configured ({kind})")
    if not table.row_count:
        table.add_row("none", "", "no serial adapter is plugged in")
    return table


def _adapter(product: str, usb: object) -> str:
    return f"{product} {usb}" if usb else product


def _radio(scan: Scan, *, unknown: bool) -> Table | Text:
    if not scan.adapters:
        return Text("Bluetooth: no adapter is here", style="italic")
    table = Table(
        title=f"Bluetooth {', '.join(scan.adapters)}".rstrip(), title_justify="left", box=None, pad_edge=False
    )
    for column in ("address", "name", "dBm", "model", "says", "is it read?"):
        table.add_column(column, overflow="fold", justify="right" if column == "dBm" else "left")
    for device in _sorted(scan):
        if unknown or _is_of_use(device):
            read = f"{device.verdict.value}, configured as {device.device}" if device.device else device.verdict.value
            model = " ".join(part for part in (device.model or device.family, device.firmware) if part)
            _add(table, device.address, device.name, str(device.rssi), model, _values(device), read)
    if not table.row_count:
        table.add_row("none yet")
    return table


def _add(table: Table, *cells: str) -> None:
    """As they are: whoever walks by gives a device its name, and a line its fields. Brackets would be taken for markup,
    and an escape sequence for an order to the terminal."""
    table.add_row(*(Text(_printable(cell)) for cell in cells))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _values(device: Recognition) -> str:
    shown = [f"{channel} {value:g}" for channel, value in list(device.values.items())[:_VALUES_SHOWN]]
    return ", ".join(shown) + (" …" if len(device.values) > _VALUES_SHOWN else "")


def _is_of_use(device: Recognition) -> bool:
    return device.verdict is not Verdict.NO_PARSER


def _sorted(scan: Scan) -> list[Recognition]:
    """What can be read first, the nearest first."""
    return sorted(scan.radio.devices.values(), key=lambda d: (not _is_of_use(d), -d.rssi, d.address))
