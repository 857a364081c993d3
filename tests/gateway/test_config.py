"""Every mistake in a configuration file, as one line that says what would be right."""

from pathlib import Path

import pytest

from device_drivers.registry import DRIVER_KINDS
from gateway.config import GatewayConfig, load_config
from gateway.link.config_file import MAX_FILE, ConfigError, load_toml
from tests.gateway.scripted_driver import Script

GATEWAY = '[gateway]\nsite = "seoul-1"\nname = "gw-01"\nstate_dir = "/var/lib/heal7-iot"\n'
KNOWN = ", ".join(f'"{kind}"' for kind in DRIVER_KINDS)
PMS = '[[driver]]\nkind = "pms5003"\ndevice = "{device}"\nport = "{port}"\n'
RADIO = '[[driver]]\nkind = "{kind}"\n[[driver.device]]\naddress = "A4:C1:38:8D:18:B{n}"\ndevice = "radio-{n}"\n'
BY_ID = "/dev/serial/by-id/usb-A-if00"


def mistakes(path: Path, text: str | bytes) -> list[str]:
    """The lines, without the file that begins each."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


CASES = [
    ("", ["gateway: is missing; write a table [gateway] with site, name and state_dir"]),
    (
        "[gateway]\n",
        [
            'gateway.site: is missing; the center, such as site = "seoul-1"',
            'gateway.name: is missing; this box, such as name = "gw-01"',
            'gateway.state_dir: is missing; such as state_dir = "/var/lib/heal7-iot"',
        ],
    ),
    (GATEWAY + "[mqtt]\nhots = 'x'\n", ["mqtt.hots: unknown key; did you mean host?"]),
    (
        GATEWAY + "[clock]\nzzzzz = 1\n",
        ["clock.zzzzz: unknown key; known here: trust"],
    ),
    (
        GATEWAY + "[sppol]\n",
        ["sppol: unknown key; did you mean spool?"],
    ),
    (GATEWAY.replace("name =", "nmae ="), ["gateway.nmae: unknown key; did you mean name?"]),
    (GATEWAY + '[mqtt]\nport = "1883"\n', ['mqtt.port: "1883" is wrong; write a whole number']),
    (GATEWAY + "[mqtt]\nport = 1883.5\n", ["mqtt.port: 1883.5 is wrong; write a whole number"]),
    (GATEWAY + "[mqtt]\nport = true\n", ["mqtt.port: true is wrong; write a whole number"]),
    (GATEWAY + "[mqtt]\nport = 0\n", ["mqtt.port: 0 is wrong; must be at least 1"]),
    (GATEWAY + "[mqtt]\nport = 65536\n", ["mqtt.port: 65536 is wrong; must be at most 65535"]),
    (GATEWAY + "[mqtt]\nhost = 5\n", ['mqtt.host: 5 is wrong; write text in quotes, such as "text"']),
    (GATEWAY + '[mqtt]\ninsecure = "yes"\n', ['mqtt.insecure: "yes" is wrong; write true or false']),
    (
        GATEWAY + "[mqtt]\npassword = 12345\n",
        ['mqtt.password: this value is wrong; write text in quotes, such as "text"'],
    ),
    (GATEWAY + "[mqtt]\nconnect_timeout_s = 0\n", ["mqtt.connect_timeout_s: 0 is wrong; must be more than 0.0"]),
    (
        GATEWAY + '[mqtt]\nhost = "192.168.1.5"\n',
        [
            (
                "mqtt: host 192.168.1.5 is beyond loopback, and this version has no TLS: anybody on the way could read "
                "and forge readings; set insecure = true if you accept that, or use a broker on 127.0.0.1"
            )
        ],
    ),
    (
        GATEWAY + '[mqtt]\nroot = "a/#"\n',
        ["mqtt.root: must be topic levels such as heal7/v1, without +, #, $ or a slash at either end"],
    ),
    (GATEWAY + "[spool]\nbound_bytes = 5\n", ["spool.bound_bytes: 5 is wrong; must be at least 4194304"]),
    (GATEWAY + "[spool]\nreplay_window_s = nan\n", ["spool.replay_window_s: NaN is wrong; write a finite number"]),
    (
        GATEWAY + "[batch]\nlinger_s = 0\nmax_readings = 99999\n",
        [
            "batch.linger_s: 0 is wrong; must be at least 0.01",
            "batch.max_readings: 99999 is wrong; must be at most 32768",
        ],
    ),
    (GATEWAY + '[clock]\ntrust = "ntp"\n', ["clock.trust: \"ntp\" is wrong; must be 'kernel' or 'system'"]),
    (GATEWAY + "uplink = 5\n", ["gateway.uplink: unknown key; known here: site, name, state_dir"]),
    ("uplink = 5\n" + GATEWAY, ["uplink: 5 is wrong; write a table of keys"]),
    (
        GATEWAY + "[uplink]\nresend_first_s = 10\nresend_longest_s = 2\n",
        ["uplink: resend_longest_s is less than resend_first_s; make it at least 10"],
    ),
    (GATEWAY + "[uplink]\nheartbeat_s = 31\n", ["uplink.heartbeat_s: 31 is wrong; must be at most 30.0"]),
    (
        GATEWAY + '[health]\nfile = "x.json"\n',
        ["health.file: 'x.json' is wrong; write an absolute path such as /run/heal7-iot-gateway/health.json"],
    ),
    (
        GATEWAY.replace("/var/lib/heal7-iot", "state"),
        ["gateway.state_dir: 'state' is wrong; write an absolute path such as /var/lib/heal7-iot"],
    ),
    (
        GATEWAY.replace("seoul-1", "seoul 1"),
        ["gateway.site: 'seoul 1' is wrong; write 1 to 64 letters, digits, _ . or -"],
    ),
    (GATEWAY.replace("seoul-1", "server"), ["gateway.site: 'server' is reserved; choose another name"]),
    (GATEWAY + "[[driver]]\n", [f"driver[0].kind: is missing; write one of {KNOWN}"]),
    (
        GATEWAY + '[[driver]]\nkind = "sds"\n',
        [f"driver[0].kind: 'sds' is no kind of driver; write one of {KNOWN}"],
    ),
    (
        GATEWAY + "[driver]\nkind = 'ble'\n",
        ['driver: {"kind": "ble"} is wrong; write an array in square brackets, or [[driver]] for each'],
    ),
    (
        GATEWAY + PMS.format(device="a", port=BY_ID) + PMS.format(device="b", port=BY_ID + "x") + "prot = 1\n",
        ["driver[1].prot: unknown key; did you mean port?"],
    ),
    (
        GATEWAY + PMS.format(device="a", port=BY_ID) + PMS.format(device="a", port=BY_ID + "x"),
        ['driver[1].device: "a" is taken by driver[0].device; give each device a name of its own'],
    ),
    (
        GATEWAY + PMS.format(device="a", port=BY_ID) + PMS.format(device="b", port=BY_ID),
        [f'driver[1].port: "{BY_ID}" is taken by driver[0].port; use it once'],
    ),
    (
        GATEWAY
        + PMS.format(device="a", port=BY_ID)
        + '[[driver]]\nkind = "ble"\n[[driver.device]]\naddress = "A4:C1:38:8D:18:B2"\ndevice = "a"\n',
        ['driver[1].device[0].device: "a" is taken by driver[0].device; give each device a name of its own'],
    ),
    (
        GATEWAY + RADIO.format(kind="ble", n=1) + RADIO.format(kind="gatt", n=2) + RADIO.format(kind="gatt", n=3),
        ['driver[2].adapter: "hci0" is taken by driver[1].adapter; use it once'],
    ),
    (
        GATEWAY + 2 * '[[driver]]\nkind = "ble"\naccept = ["bthome"]\n',
        ['driver[1].kind: "ble" is taken by driver[0].kind; name all of them in one: adapters = ["hci0", "hci1"]'],
    ),
    (
        GATEWAY + '[[driver]]\nkind = "ble"\n[[driver.device]]\nadress = "A4:C1:38:8D:18:B2"\ndevice = "a"\n',
        ["driver[0].device[0].adress: unknown key; did you mean address?"],
    ),
    (
        GATEWAY + "[mqtt]\nport = 0\n[batch]\nlinger = 1\n" + '[[driver]]\nkind = "x"\n',
        [
            "mqtt.port: 0 is wrong; must be at least 1",
            "batch.linger: unknown key; did you mean linger_s?",
            f"driver[0].kind: 'x' is no kind of driver; write one of {KNOWN}",
        ],
    ),
    ("[gateway\n", ["line 1, column 9: is not TOML: expected ']' at the end of a table declaration"]),
    (GATEWAY + "a = \n", ["line 5, column 5: is not TOML: invalid value"]),
    ('a = """', ["end of the file: is not TOML: unterminated string"]),
    (b"# ok\n# \xff\n", ["line 2: byte 0xff is not UTF-8; save the file as UTF-8"]),
    ("a = " + "[" * 100_000, ["is nested too deeply"]),
    ("a" * (MAX_FILE + 1), [f"has more than {MAX_FILE} bytes; name a TOML file"]),
]


@pytest.mark.parametrize(("text", "lines"), CASES, ids=range(len(CASES)))
def test_each_mistake_is_one_readable_line(file: Path, text: str | bytes, lines: list[str]) -> None:
    assert mistakes(file, text) == lines


def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    for path, line in (
        (tmp_path / "none.toml", "there is no such file; name it with --config FILE"),
        (tmp_path, "is a directory; name a TOML file"),
        (Path("/dev/zero"), f"has more than {MAX_FILE} bytes; name a TOML file"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert str(caught.value) == f"{path}: {line}"


def test_no_mistake_shows_a_secret(file: Path) -> None:
    text = GATEWAY + '[[driver]]\nkind = "ble"\n[[driver.device]]\naddress = "A4:C1:38:8D:18:B2"\ndevice = "a"\n'
    assert "hunter2" not in "\n".join(mistakes(file, text + 'bindkey = "hunter2"\n'))
    assert "77777" not in "\n".join(mistakes(file, text + "bindkey = 77777\n"))


def test_the_annotated_example_is_right_and_shows_the_defaults(tmp_path: Path, file: Path) -> None:
    example = Path(__file__).parents[2] / "docs" / "examples" / "gateway.toml"
    config = load_config(example)
    assert config.identity == "seoul-1/gw-01"
    assert len(config.driver) == 5
    # What is commented out is what holds anyway, down to the last key.
    lines = []
    for line in example.read_text().splitlines():
        bare = line.removeprefix("# ")
        key, equals, value = bare.partition(" = ")
        shown = line.startswith("# ") and equals and key.isidentifier() and "…" not in value.split("#")[0]
        lines.append(bare if shown and key not in ("file", "username", "directory") else line)
    file.write_text("\n".join(lines))
    assert load_config(file) == config


def test_defaults_need_only_the_names(file: Path) -> None:
    file.write_text(GATEWAY)
    config = load_config(file)
    assert config.spool_path == Path("/var/lib/heal7-iot/spool.sqlite3")
    assert config.batch.max_readings == 1000
    assert config.driver == ()


def test_a_configuration_cannot_be_changed(file: Path) -> None:
    file.write_text(GATEWAY)
    config = load_config(file)
    with pytest.raises(ValueError, match="frozen"):
        config.driver = ()


def test_a_registry_may_be_given(file: Path) -> None:
    file.write_text(GATEWAY + '[[driver]]\nkind = "scripted"\ndevice = "a"\n')
    (options,) = load_config(file, Script().kinds()).driver
    assert options.model_dump() == {"kind": "scripted", "device": "a", "port": ""}


def test_tables_that_differ_are_named(file: Path) -> None:
    file.write_text(GATEWAY)
    one = load_config(file)
    file.write_text(GATEWAY + "[batch]\nmax_readings = 5\n[mqtt]\nport = 9\n")
    assert one.changed(load_config(file)) == ["mqtt", "batch"]
    assert one.changed(one) == []


def test_any_model_can_be_loaded(file: Path) -> None:
    from gateway.config import BatchOptions

    file.write_text("linger_s = 2\n")
    assert load_toml(file, BatchOptions) == BatchOptions(linger_s=2.0)
    assert GatewayConfig.model_config["frozen"]
