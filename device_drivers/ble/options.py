"""What an operator writes in the gateway's configuration about one Bluetooth LE radio."""

import re
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from device_drivers.ble.address import BleAddress
from device_drivers.ble.families import FAMILIES

# The wire format bounds a device's name to 128 bytes of UTF-8; a longer one would be refused by the server.
MAX_DEVICE_BYTES = 128

# BlueZ reports an advertisement that does not change only every 3 s in passive mode: a shorter silence would
# reopen a healthy scanner for ever.
MIN_SILENCE_S = 5.0

_BINDKEY = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{24}")

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BleDeviceOptions(BaseModel):
    """One sensor that this gateway listens to.

    address: its Bluetooth address, `A4:C1:38:8D:18:B2`. device: our name for it, at most 128 bytes.
    model: None where its advertisements are to tell, which is the rule. firmware: for BTHome the version of the
    format, for Xiaomi that of MiBeacon, for Ruuvi the number of the data format. Where an advertisement states
    another major version, what is heard decides, and without a profile for it the reading carries the raw bytes.
    bindkey: 32 hexadecimal digits (24 for MiBeacon 2 and 3), where the sensor encrypts. Plain advertisements are
    refused then.
    """

    model_config = _STRICT

    address: BleAddress
    device: str
    model: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    firmware: Annotated[str, Field(pattern=r"^\d{1,5}(\.\d{1,5}){0,3}$")] | None = None
    bindkey: SecretStr | None = None

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
            raise ValueError("must be 32 hexadecimal digits, or 24 for MiBeacon 2 and 3")
        return key

    def key(self) -> bytes | None:
        """The 16 or 12 bytes of the bindkey."""
        return None if self.bindkey is None else bytes.fromhex(self.bindkey.get_secret_value())


class BleOptions(BaseModel):
    """The radios of a gateway and the sensors that are heard through them.

    adapters: always named, since with two of them bleak would take whichever a set yields first. All of them are in
    one entry, because they hear the same sensors, each of whose measurements is to be read once.
    mode: `active` asks sensors for more (and drains their batteries a little); `passive` needs BlueZ's
    advertisement monitor (5.56 or newer, experimental features), and does not hear what is in scan responses only.
    silence_s: seconds without any advertisement of whatever device after which a radio counts as deaf.
    accept: families of which every device in range is forwarded, named by its address, if that is one that stays.
    """

    model_config = _STRICT

    # Two drivers would each read what both hear. The text is what to write instead.
    one_per_gateway: ClassVar[str] = 'name all of them in one: adapters = ["hci0", "hci1"]'

    kind: Literal["ble"] = "ble"
    adapters: Annotated[tuple[Annotated[str, Field(pattern=r"^hci\d{1,3}$")], ...], Field(min_length=1)] = ("hci0",)
    mode: Literal["active", "passive"] = "active"
    silence_s: Annotated[float, Field(ge=MIN_SILENCE_S, le=86_400)] = 60.0
    device: tuple[BleDeviceOptions, ...] = ()
    accept: tuple[str, ...] = ()

    @field_validator("accept")
    @classmethod
    def _families(cls, accept: tuple[str, ...]) -> tuple[str, ...]:
        for name in accept:
            if name not in FAMILIES:
                raise ValueError(f"{name!r:.40} is no family; write one of {', '.join(FAMILIES)}")
        return accept

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what, values in (
            ("adapter", list(self.adapters)),
            ("address", [device.address for device in self.device]),
            ("device", [device.device for device in self.device]),
        ):
            repeated = sorted({value for value in values if values.count(value) > 1})
            if repeated:
                raise ValueError(f"{what} {repeated[0]!r} is listed twice")
        if not self.device and not self.accept:
            raise ValueError('list at least one [[driver.device]], or accept a family, such as accept = ["bthome"]')
        return self
