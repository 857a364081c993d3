"""What we ask BlueZ of an adapter beside scanning: whether it says that it scans, and to be switched off and on.

Interface: https://github.com/bluez/bluez/blob/master/doc/org.bluez.Adapter.rst
"""

import asyncio

from bleak.backends.bluezdbus.manager import get_global_bluez_manager
from dbus_fast import Message, MessageType, Variant
from dbus_fast.errors import DBusError

_ADAPTER = "org.bluez.Adapter1"
_PROPERTIES = "org.freedesktop.DBus.Properties"

# bluetoothd answers within milliseconds; a controller takes up to some seconds to come up.
_ANSWER_TIMEOUT_S = 10.0

# A controller's firmware is loaded anew only where it was without power for a moment.
_OFF_S = 1.0


async def says_scanning(adapter: str) -> bool:
    """Whether BlueZ says that a discovery runs. Raises one of `LINK_ERRORS`."""
    reply = await _call(adapter, "Get", "ss", [_ADAPTER, "Discovering"])
    return bool(reply.body[0].value)


async def cycle_power(adapter: str) -> None:
    """Off and on; on also where it was off, as after a controller that fell from its bus.

    Raises one of `LINK_ERRORS`.
    """
    await _power(adapter, False)
    await asyncio.sleep(_OFF_S)
    await _power(adapter, True)


async def _power(adapter: str, on: bool) -> None:
    await _call(adapter, "Set", "ssv", [_ADAPTER, "Powered", Variant("b", on)])


async def _call(adapter: str, member: str, signature: str, body: list[object]) -> Message:
    async with asyncio.timeout(_ANSWER_TIMEOUT_S):
        # Makes a new connection where the last one was cut.
        bus = (await get_global_bluez_manager())._bus
        assert bus is not None
        reply = await bus.call(
            Message(
                destination="org.bluez",
                path=f"/org/bluez/{adapter}",
                interface=_PROPERTIES,
                member=member,
                signature=signature,
                body=body,
            )
        )
    assert reply is not None
    if reply.message_type is MessageType.ERROR:
        raise DBusError(str(reply.error_name), str(reply.body[0]) if reply.body else "")
    return reply
