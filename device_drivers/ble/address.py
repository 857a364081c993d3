"""A Bluetooth address, as a configuration writes it."""

import re
from typing import Annotated

from pydantic import AfterValidator

_ADDRESS = re.compile(r"(?:[0-9A-F]{2}:){5}[0-9A-F]{2}")


def _address(text: str) -> str:
    """Upper case, as BlueZ writes it: the two are compared as text."""
    address = text.upper()
    if not _ADDRESS.fullmatch(address):
        raise ValueError("write six pairs of hexadecimal digits with colons, such as 'A4:C1:38:8D:18:B2'")
    return address


BleAddress = Annotated[str, AfterValidator(_address)]
