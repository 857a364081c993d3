"""What an operator writes in the gateway's configuration about one Bluetooth LE radio."""

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

# The wire format bounds a device's name to 128 bytes of UTF-8; a longer one would be refused by the server.
MAX_DEVICE_BYTES = 128

# BlueZ reports an advertisement that does not change only every 3 s in passive mode: a shorter silence would
# reopen a healthy scanner for ever.
MIN_SILENCE_S = 5.0

_MAC = re.compile(r"(?:[0-9A-F]{2}:){5}[0-9A-F]{2}")
_BINDKEY = re.compile(r"[0-9a-fA-F]{32}")

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BleDeviceOptions(BaseModel):
    """One sensor that this gateway listens to.

    address: its Bluetooth address, `A4:C1:38:8D:18:B2`. device: our name for it, at most 128 bytes.
    firmware: for model BTHome the version of the format. Where an advertisement states another major version,
    what is heard decides, and without a profile for it the reading carries the raw bytes.
    bindkey: 32 hexadecimal digits, where the sensor encrypts. Plain advertisements are refused then.
    """

    model_config = _STRICT

    address: str
    device: str
    model: Annotated[str, Field(min_length=1, max_length=128)] = "BTHome"
    firmware: Annotated[str, Field(pattern=r"^\d{1,5}(\.\d{1,5}){0,3}$")] = "2"
    bindkey: SecretStr | None = None

    @field_validator("address")
    @classmethod
    def _mac(cls, text: str) -> str:
        """Upper case, as BlueZ writes it: the two are compared as text."""
        address = text.upper()
        if not _MAC.fullmatch(address):
            raise ValueError("write six pairs of hexadecimal digits with colons, such as 'A4:C1:38:8D:18:B2'")
        return address

    @field_validator("device")
    @classmethod
    def _printable(cls, text: str) -> str:
        if not text or not text.isprintable() or text != text.strip():
            raise ValueError("must be a name without control characters or spaces around it")
        if len(text.encode()) > MAX_DEVICE_BYTES:
            raise ValueError(f"must be at most {MAX_DEVICE_BYTES} bytes of UTF-8")
        return text

    @field_validator("bindkey")
    @classmethod
    def _hexadecimal(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not _BINDKEY.fullmatch(key.get_secret_value()):
            raise ValueError("must be 32 hexadecimal digits")
        return key

    def key(self) -> bytes | None:
        """The 16 bytes of the bindkey."""
        return None if self.bindkey is None else bytes.fromhex(self.bindkey.get_secret_value())


class BleOptions(BaseModel):
    """One radio and the sensors that are heard through it.

    adapter: always named, since with two of them bleak would take whichever a set yields first.
    mode: `active` asks sensors for more (and drains their batteries a little); `passive` needs BlueZ's
    advertisement monitor (5.56 or newer, experimental features).
    silence_s: seconds without any advertisement of a listed device after which the radio counts as lost; it must
    exceed the longest interval at which the most talkative sensor sends.
    accept_unlisted: forwards every BTHome device in range, named by its address.
    """

    model_config = _STRICT

    kind: Literal["ble"] = "ble"
    adapter: Annotated[str, Field(pattern=r"^hci\d{1,3}$")] = "hci0"
    mode: Literal["active", "passive"] = "active"
    silence_s: Annotated[float, Field(ge=MIN_SILENCE_S, le=86_400)] = 60.0
    device: tuple[BleDeviceOptions, ...] = ()
    accept_unlisted: bool = False

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what, values in (
            ("address", [device.address for device in self.device]),
            ("device", [device.device for device in self.device]),
        ):
            repeated = sorted({value for value in values if values.count(value) > 1})
            if repeated:
                raise ValueError(f"{what} {repeated[0]!r} is listed twice")
        if not self.device and not self.accept_unlisted:
            raise ValueError("list at least one [[device]], or set accept_unlisted = true")
        return self
