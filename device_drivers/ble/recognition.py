"""What a technician wants to know of each device that a radio hears: what it is, whether it is read, else why not.

No radio, no clock: `heal7-iot gateway scan` feeds it with advertisements.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from device_drivers.ble.address_kind import AddressKind, address_kind
from device_drivers.ble.advert import Advert
from device_drivers.ble.arrivals import Arrivals
from device_drivers.ble.families import Family, recognised
from device_drivers.ble.heard import Decoder, Heard, Refusal, Unknown
from device_drivers.ble.key_doubt import KeyDoubt
from device_drivers.ble.options import BleOptions
from firmware_profiles.selection import ProfileSet

# Of a whole street in an hour: phones change their address every few minutes.
MOST_DEVICES = 4096


class Verdict(Enum):
    """The text is for people. In the order of how much is known: what was found out is not forgotten by a later advert
    that says less."""

    NO_PARSER = "nobody here reads what it sends"
    SILENT = "of a family that is read, but said nothing to decode yet"
    DAMAGED = "of a family that is read, but its bytes are damaged or of another kind"
    UNKNOWN_MODEL = "of a family that is read, but model or format is unknown: its bytes are kept raw"
    NEEDS_BINDKEY = "encrypts: needs its bindkey"
    WRONG_BINDKEY = "encrypts, and the bindkey of the configuration is wrong"
    NEEDS_NO_BINDKEY = "does not encrypt, though the configuration gives a bindkey: it is refused"
    NO_PROFILE = "decoded, but no profile knows the model with this firmware: its bytes are kept raw"
    ROTATING = "would be read, but its address changes every few minutes: set a fixed one, if it is yours"
    DECODABLE = "is read"


_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}

_VERDICTS = {
    Refusal.WITHOUT_VALUES: Verdict.SILENT,
    Refusal.AMBIGUOUS: Verdict.SILENT,
    Refusal.NO_KEY: Verdict.NEEDS_BINDKEY,
    Refusal.WRONG_KEY: Verdict.WRONG_BINDKEY,
    Refusal.PLAIN: Verdict.NEEDS_NO_BINDKEY,
}


@dataclass(frozen=True, slots=True)
class Recognition:
    """What is known of one device by now.

    rssi: dBm, of the last advertisement. family: empty where none claims it. model, firmware: as it tells them. values:
    what it said last, by channel. device: its name in the configuration, None where it is not listed. lines: of the
    configuration, to be pasted below a `[[driver]]` of kind `ble`; empty where it is listed or never could be read.
    """

    address: str
    address_kind: AddressKind
    name: str
    rssi: int
    verdict: Verdict
    family: str = ""
    model: str = ""
    firmware: str = ""
    profile: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    device: str | None = None
    lines: str = ""


def driver_lines(adapters: Sequence[str]) -> str:
    """The `[[driver]]` below which the lines of the devices go."""
    named = ", ".join(f'"{adapter}"' for adapter in adapters)
    return f'[[driver]]\nkind = "ble"\nadapters = [{named}]\n'


class Recognizer:
    """Of everything that is heard; the oldest are forgotten beyond `MOST_DEVICES`."""

    def __init__(self, profiles: ProfileSet, options: BleOptions | None = None) -> None:
        """options: of the gateway's own driver, whose bindkeys and names count; None where it has none."""
        self._profiles = profiles
        self._listed = {device.address: device for device in options.device} if options else {}
        self._met: OrderedDict[str, _Met] = OrderedDict()

    def hear(self, advert: Advert, address_type: str) -> Recognition:
        """What is known with this advertisement. address_type: `public` or `random`, as BlueZ tells it."""
        met = self._met.get(advert.address)
        if met is None:
            if len(self._met) >= MOST_DEVICES:
                self._met.popitem(last=False)
            listed = self._listed.get(advert.address)
            met = self._met[advert.address] = _Met(
                address_kind(advert.address, address_type),
                listed.device if listed else None,
                listed.key() if listed else None,
                listed.model if listed else None,
                listed.firmware if listed else None,
            )
        self._met.move_to_end(advert.address)
        return met.hear(advert, self._profiles)


class _Met:
    """One device."""

    def __init__(
        self,
        kind: AddressKind,
        device: str | None,
        bindkey: bytes | None,
        model: str | None,
        firmware: str | None,
    ) -> None:
        self._kind = kind
        self._device = device
        self._bindkey = bindkey
        self._configured = (model, firmware)
        self._family: Family | None = None
        self._decoder: Decoder | None = None
        self._arrivals: Arrivals | None = None
        self._key_doubt = KeyDoubt()
        self._name = ""
        self._verdict = Verdict.NO_PARSER
        self._heard = Heard({}, "")
        self._profile = ""

    def hear(self, advert: Advert, profiles: ProfileSet) -> Recognition:
        self._name = advert.name or self._name
        if self._family is None:
            self._family = recognised(advert)
            if self._family is not None:
                self._decoder = self._family.open(advert.address, self._bindkey)
                self._arrivals = Arrivals(self._family)
                self._verdict = Verdict.SILENT
        if self._arrivals is not None and self._decoder is not None:
            news = self._arrivals.news(advert)
            if isinstance(news, Advert):
                found = self._judged(self._decoder.decode(news), profiles)
                # A key that was found wrong, or a profile that was put in, must not be hidden by what was known before.
                certain = found in (Verdict.WRONG_BINDKEY, Verdict.DECODABLE, Verdict.NO_PROFILE)
                if certain or _RANK[found] > _RANK[self._verdict]:
                    self._verdict = found
        return Recognition(
            advert.address,
            self._kind,
            self._name,
            advert.rssi,
            self._verdict,
            self._family.name if self._family else "",
            self._heard.model,
            self._heard.firmware,
            self._profile,
            self._heard.values,
            self._device,
            self._lines(advert.address),
        )

    def _judged(self, heard: Heard | Refusal | Unknown, profiles: ProfileSet) -> Verdict:
        if isinstance(heard, Refusal):
            if heard is Refusal.UNAUTHENTIC:
                self._key_doubt.failed()
                return Verdict.WRONG_BINDKEY if self._key_doubt.wrong else Verdict.DAMAGED
            return _VERDICTS.get(heard, Verdict.DAMAGED)
        if isinstance(heard, Unknown):
            if heard.model or heard.firmware:
                self._heard = Heard({}, heard.model, heard.firmware)
            return Verdict.UNKNOWN_MODEL
        self._key_doubt.passed()
        if self._bindkey and self._family is not None and not self._family.keyed:
            return Verdict.NEEDS_NO_BINDKEY
        self._heard = heard
        profile = profiles.select(*heard.identity(*self._configured))
        self._profile = profile.name if profile else ""
        if profile is None:
            return Verdict.NO_PROFILE
        return Verdict.DECODABLE if self._kind.stable or self._device else Verdict.ROTATING

    def _lines(self, address: str) -> str:
        if self._device is not None or self._verdict in (Verdict.NO_PARSER, Verdict.ROTATING):
            return ""
        assert self._family is not None
        words = re.findall("[a-z0-9]+", (self._heard.model or self._family.name).lower())
        suggested = "-".join([*words, address.replace(":", "").lower()[-4:]])
        said = f'[[driver.device]]\naddress = "{address}"\ndevice = "{suggested}"\n'
        return said + ('bindkey = "…"\n' if self._verdict is Verdict.NEEDS_BINDKEY else "")
