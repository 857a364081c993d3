"""The message format: what is encoded is decoded, and no bytes raise anything but ProtocolError."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_drivers.errors import ProtocolError
from device_drivers.simulator import dbus_wire
from device_drivers.simulator.dbus_wire import Field, Frame, Kind

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
NUMBERS = (Field.REPLY_SERIAL, Field.UNIX_FDS)
FIELDS = st.fixed_dictionaries(
    {}, optional={code: st.integers(0, 2**32 - 1) if code in NUMBERS else TEXT for code in Field}
)
FRAMES = st.builds(
    Frame, st.sampled_from(Kind), st.integers(1, 2**32 - 1), st.integers(0, 255), FIELDS, st.binary(max_size=40)
)

# The specification's Hello, as dbus-daemon's own clients send it.
HELLO = bytes.fromhex(
    "6c01000100000000010000006d000000"
    "01016f00150000002f6f72672f667265656465736b746f702f44427573000000"
    "0201730014000000" + b"org.freedesktop.DBus".hex() + "00000000"
    "0301730005000000" + b"Hello".hex() + "000000"
    "0601730014000000" + b"org.freedesktop.DBus".hex() + "00000000"
)


def test_a_known_message() -> None:
    frame = dbus_wire.decode(HELLO)
    assert (frame.kind, frame.serial, frame.body) == (Kind.METHOD_CALL, 1, b"")
    assert frame.fields == {
        Field.PATH: "/org/freedesktop/DBus",
        Field.INTERFACE: "org.freedesktop.DBus",
        Field.MEMBER: "Hello",
        Field.DESTINATION: "org.freedesktop.DBus",
    }
    assert dbus_wire.encode(frame) == HELLO


@given(FRAMES)
def test_round_trip(frame: Frame) -> None:
    data = dbus_wire.encode(frame)
    assert dbus_wire.message_size(data[: dbus_wire.HEAD_SIZE]) == len(data)
    assert dbus_wire.decode(data) == frame


@given(FRAMES, st.data())
def test_damage_raises_only_protocol_errors(frame: Frame, draw: st.DataObject) -> None:
    data = bytearray(dbus_wire.encode(frame))
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    with suppress(ProtocolError):
        dbus_wire.decode(bytes(data[: draw.draw(st.integers(0, len(data)))]))


def test_a_message_beyond_the_bound_is_refused_by_its_head() -> None:
    head = bytes.fromhex("6c010001 ffffff7f 01000000 00000000")
    with pytest.raises(ProtocolError, match="bytes"):
        dbus_wire.message_size(head)


@given(st.lists(TEXT, min_size=1, max_size=3))
def test_a_body_of_strings_starts_with_the_first(texts: list[str]) -> None:
    assert dbus_wire.first_string(dbus_wire.encode_strings(*texts)) == texts[0]


@given(st.binary(max_size=40))
def test_a_body_of_something_else(body: bytes) -> None:
    with suppress(ProtocolError):
        dbus_wire.first_string(body)
