"""Names of serial lines: those that stay the same are taken, the others are refused with what to write instead."""

from pathlib import Path

import pytest
from serial.tools.list_ports_common import ListPortInfo

from device_drivers.serial_line.port import DeviceServer, SerialPort, UsbIdentity, describe_links


@pytest.mark.parametrize(
    "text",
    [
        "/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A10K1234-if00-port0",
        "/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0",
        "/dev/ttyS0",
        "/dev/ttyAMA0",
        "/dev/air-quality-lobby",
    ],
)
def test_stable_paths(text: str) -> None:
    port = SerialPort.parse(text)
    assert port.address == text
    assert str(port) == text


def test_usb_identity() -> None:
    assert SerialPort.parse("0403:60aF:A10K1234").address == UsbIdentity(0x0403, 0x60AF, "A10K1234")
    assert SerialPort.parse("1a86:7523:a:b").address == UsbIdentity(0x1A86, 0x7523, "a:b")


@pytest.mark.parametrize(
    ("text", "host", "number"),
    [
        ("socket://10.0.0.5:4001", "10.0.0.5", 4001),
        ("socket://nport-3.lan:1", "nport-3.lan", 1),
        ("socket://[fe80::1]:65535", "[fe80::1]", 65535),
    ],
)
def test_device_servers(text: str, host: str, number: int) -> None:
    port = SerialPort.parse(text)
    assert port.address == DeviceServer(host, number)
    assert str(port) == str(port.address) == text


@pytest.mark.parametrize(
    "text", ["socket://", "socket://host", "socket://host:0", "socket://host:65536", "socket:/h:1", "socket://a b:1"]
)
def test_what_is_no_device_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write socket://host:port, such as socket://10"):
        SerialPort.parse(text)


@pytest.mark.parametrize(
    "text", ["/dev/ttyUSB0", "/dev/ttyACM12", "/dev/rfcomm0", "/dev//ttyUSB0", "/dev/../dev/ttyUSB1"]
)
def test_changing_names_are_refused_with_what_to_write(text: str, tmp_path: Path) -> None:
    link = tmp_path / "usb-FTDI_A10K1234-if00-port0"
    link.touch()
    with pytest.raises(ValueError, match="may name another device") as refusal:
        SerialPort.parse(text, by_id=tmp_path)
    assert str(link) in str(refusal.value)


@pytest.mark.parametrize("text", ["", "ttyUSB0", "COM3", "0403:6001", "0403:6001:", "/dev/x\n", "403:6001:A"])
def test_what_is_no_port_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"neither an absolute path nor VID:PID:serial nor socket://host:port; .*plug"):
        SerialPort.parse(text, by_id=tmp_path)


def test_links_are_named_even_where_udev_made_no_folder(tmp_path: Path) -> None:
    assert "plug the adapter in" in describe_links(tmp_path / "absent")


def _listed(device: str, vid: int | None, pid: int | None, serial_number: str | None) -> ListPortInfo:
    info = ListPortInfo(device)
    info.vid, info.pid, info.serial_number = vid, pid, serial_number
    return info


def test_usb_identity_matches_all_three_numbers() -> None:
    listed = [
        _listed("/dev/ttyS0", None, None, None),
        _listed("/dev/ttyUSB0", 0x0403, 0x6001, "A1"),
        _listed("/dev/ttyUSB1", 0x0403, 0x6001, "A2"),
        _listed("/dev/ttyUSB2", 0x1A86, 0x6001, "A2"),
    ]
    assert UsbIdentity(0x0403, 0x6001, "A2").matches(listed) == ["/dev/ttyUSB1"]
    assert UsbIdentity(0x0403, 0x6015, "A2").matches(listed) == []
