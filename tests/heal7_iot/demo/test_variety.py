"""The center has one of every serial sensor that can be emulated, and its gateway is configured for all of them."""

from pathlib import Path

from device_drivers.simulator.serial_sensors import EMULATED
from gateway.config import device_ids, load_config
from heal7_iot.demo.center import ROOMS
from heal7_iot.demo.configuration import gateway_file
from heal7_iot.demo.sensors import ble_sensors, dust_sensor
from heal7_iot.demo.variety import LINES, size


def test_every_sensor_that_can_be_emulated_hangs_somewhere() -> None:
    hanging = [name for _, names in LINES for name in names]
    # The dust sensors of the rooms are PMS5003s already.
    assert sorted(hanging) == sorted(EMULATED.keys() - {"pms5003"})
    assert {room for room, _ in LINES} == {room.key for room in ROOMS}


def test_the_gateways_file_names_all_of_them_once(tmp_path: Path) -> None:
    serial = {f"{room}-{'-'.join(names)}": tmp_path / f"{room}-{'-'.join(names)}" for room, names in LINES}
    serial |= {dust_sensor(room): tmp_path / dust_sensor(room) for room in ROOMS}
    file = tmp_path / "gateway.toml"
    file.write_text(gateway_file(state_dir=tmp_path, port=1883, serial=serial, health=tmp_path / "health.json"))
    devices = [name for options in load_config(file).driver for _, name in device_ids(options)]
    assert len(set(devices)) == len(devices) == sum(size()) + len(ROOMS) + len(list(ble_sensors()))
    assert {name.partition("-")[0] for name in devices} == {room.key for room in ROOMS}
