"""Every family of advertisements that is decoded. A new one is an entry here and a module in `decoders/`.

Importing this needs no library: a gateway that hears only BTHome never loads what reads Xiaomi's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from device_drivers.ble.advert import Advert, uuid
from device_drivers.ble.heard import Decoder

_APPLE = 0x004C
"""iBeacons, which many sensors send besides."""

_BTHOME, _BTHOME_V1, _BTHOME_V1_SEALED = uuid(0xFCD2), uuid(0x181C), uuid(0x181E)
_MIBEACON, _HHCC, _SCALE_1, _SCALE_2 = uuid(0xFE95), uuid(0xFD50), uuid(0x181D), uuid(0x181B)
_ENVIRONMENT = uuid(0x181A)
_QINGPING = uuid(0xFDCD)
_RUUVI = 0x0499
_SENSORPUSH = ("ef090000-11d6-42ba-93b8-9dd7ec090ab0", "ef090000-11d6-42ba-93b8-9dd7ec090aa9")

# Grill thermometers, which send no name; what govee-ble knows them by.
_GOVEE_PROBES = tuple(uuid(n) for n in (0x5550, 0x8151, 0x8251, 0x8351, 0x8451, 0x8551, 0x9151, 0x9851))


class OpenDecoder(Protocol):
    def __call__(self, address: str, bindkey: bytes | None, /) -> Decoder: ...


def _never(advert: Advert) -> bool:
    return False


def _always(advert: Advert) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Family:
    """How a family is known and what of an advertisement it reads.

    services: UUIDs of service data; None: any. companies: of manufacturer data; None where names or UUIDs tell the
    family and any company but `not_companies` may carry its data. names: beginnings of local names, in lower case.
    uuids: of services that are only listed. numbered: whether an advertisement of it carries a packet number, so that
    the same bytes are the same packet. data_in_company: the number of the company is part of the measurement (these
    makers never asked for one), so that of several only the one that changed may be read. keyed: whether it may be
    encrypted.
    """

    name: str
    open: OpenDecoder
    services: frozenset[str] | None = frozenset()
    companies: frozenset[int] | None = frozenset()
    not_companies: frozenset[int] = frozenset()
    names: tuple[str, ...] = ()
    uuids: frozenset[str] = frozenset()
    numbered: Callable[[Advert], bool] = _never
    data_in_company: bool = False
    keyed: bool = False

    def claims(self, advert: Advert) -> bool:
        """Whether the advertisement is of this family; as it stands, others may claim it, too."""
        if self.services is not None and not self.services.isdisjoint(advert.services):
            return True
        if self.companies is not None and not self.companies.isdisjoint(advert.manufacturers):
            return True
        if self.names and advert.name and advert.name.lower().startswith(self.names):
            return True
        return bool(self.uuids) and not self.uuids.isdisjoint(advert.uuids)

    def part(self, advert: Advert) -> tuple[Mapping[str, bytes], Mapping[int, bytes]]:
        """The service and manufacturer data that it reads: other data may change without anything being measured."""
        services, manufacturers = advert.services, advert.manufacturers
        read_services = self.services
        if services and read_services is not None and not read_services.issuperset(services):
            services = {key: data for key, data in services.items() if key in read_services}
        if manufacturers:
            read = self.companies
            if read is None:
                if not self.not_companies.isdisjoint(manufacturers):
                    manufacturers = {key: data for key, data in manufacturers.items() if key not in self.not_companies}
            elif not read.issuperset(manufacturers):
                manufacturers = {key: data for key, data in manufacturers.items() if key in read}
        return services, manufacturers


def _open_bthome(address: str, bindkey: bytes | None) -> Decoder:
    from device_drivers.ble.decoders.bthome import BTHomeDecoder

    return BTHomeDecoder(address, bindkey)


def _numbered_bthome(advert: Advert) -> bool:
    data = advert.services.get(_BTHOME, b"")
    if not data:
        return False
    # Encrypted, with its counter; else the packet number is the first object, after an address where there is one.
    first = 7 if data[0] & 2 else 1
    return bool(data[0] & 1) or (len(data) > first and data[first] == 0)


def _open_xiaomi(address: str, bindkey: bytes | None) -> Decoder:
    from device_drivers.ble.decoders.xiaomi import XiaomiDecoder

    return XiaomiDecoder(address, bindkey)


def _numbered_xiaomi(advert: Advert) -> bool:
    return _MIBEACON in advert.services


def _open_atc(address: str, bindkey: bytes | None) -> Decoder:
    from device_drivers.ble.decoders.atc import AtcDecoder

    return AtcDecoder(address, bindkey)


def _open_ruuvi(address: str, bindkey: bytes | None) -> Decoder:
    from device_drivers.ble.decoders.ruuvi import RuuviDecoder

    return RuuviDecoder(address)


def _numbered_ruuvi(advert: Advert) -> bool:
    # All formats but 3 (RAWv1) count their measurements.
    return advert.manufacturers.get(_RUUVI, b"\x03")[:1] != b"\x03"


def _open_qingping(address: str, bindkey: bytes | None) -> Decoder:
    from device_drivers.ble.decoders.qingping import QingpingDecoder

    return QingpingDecoder(address)


def _open_govee(address: str, bindkey: bytes | None) -> Decoder:
    from device_drivers.ble.decoders.govee import govee_decoder

    return govee_decoder(address)


def _open_sensorpush(address: str, bindkey: bytes | None) -> Decoder:
    from device_drivers.ble.decoders.sensorpush import sensorpush_decoder

    return sensorpush_decoder(address)


def _open_thermopro(address: str, bindkey: bytes | None) -> Decoder:
    from device_drivers.ble.decoders.thermopro import thermopro_decoder

    return thermopro_decoder(address)


def _open_inkbird(address: str, bindkey: bytes | None) -> Decoder:
    from device_drivers.ble.decoders.inkbird import inkbird_decoder

    return inkbird_decoder(address)


# In the order in which they are asked: what is told by a number that somebody was given comes before names, which
# anybody may choose. A thermometer that speaks several formats in turn is read in the first that was heard.
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            Family(
                "bthome",
                _open_bthome,
                services=frozenset({_BTHOME, _BTHOME_V1, _BTHOME_V1_SEALED}),
                numbered=_numbered_bthome,
                keyed=True,
            ),
            Family(
                "xiaomi",
                _open_xiaomi,
                services=frozenset({_MIBEACON, _HHCC, _SCALE_1, _SCALE_2}),
                numbered=_numbered_xiaomi,
                keyed=True,
            ),
            Family("atc", _open_atc, services=frozenset({_ENVIRONMENT}), numbered=_always, keyed=True),
            Family("qingping", _open_qingping, services=frozenset({_QINGPING})),
            Family("ruuvi", _open_ruuvi, companies=frozenset({_RUUVI}), numbered=_numbered_ruuvi),
            Family(
                "sensorpush",
                _open_sensorpush,
                companies=None,
                names=("sensorpush",),
                uuids=frozenset(_SENSORPUSH),
                data_in_company=True,
            ),
            Family(
                "thermopro",
                _open_thermopro,
                companies=None,
                names=("tp35", "tp39", "tp96", "tp97"),
                data_in_company=True,
            ),
            Family(
                "inkbird",
                _open_inkbird,
                companies=None,
                # Number 2 is what inkbird-ble leaves out where there are others.
                not_companies=frozenset({0x0002}),
                names=("sps", "tps", "ibs-p02b", "ith-", "ibbq", "xbbq", "ink@iam-t2"),
                data_in_company=True,
            ),
            Family(
                "govee",
                _open_govee,
                companies=None,
                not_companies=frozenset({_APPLE}),
                names=("govee", "gvh5", "gv5", "h5", "b5178"),
                uuids=frozenset({uuid(0xEC88), *_GOVEE_PROBES}),
            ),
        )
    }
)

# Of Govee's sensors that send no name: numbers that are nobody's own, so that only a known payload makes them Govee's.
_GOVEE_COMPANIES = frozenset({0xEC88, 0xEF88, 0x8801, 0x8803, 0x8843})


def recognised(advert: Advert) -> Family | None:
    """The family of an advertisement, without importing what decodes it."""
    for family in FAMILIES.values():
        if family.claims(advert):
            return family
    if not _GOVEE_COMPANIES.isdisjoint(advert.manufacturers):
        return FAMILIES["govee"]
    return None


# Of one monitor. The kernel takes 16; bluetoothd (5.66, src/adv_monitor.c) counts their bytes, 34 each, in a number of
# 8 bits, and with an eighth pattern writes beyond what it allocated and dies.
MOST_PATTERNS = 7

# The flags that sensors send: discoverable in one way or another, or not; with or without classic Bluetooth (Core
# Specification Supplement, part A, 1.3).
_FLAGS = (0x06, 0x04, 0x05, 0x02)


def patterns() -> list[tuple[int, int, bytes]]:
    """What a passive scan asks BlueZ to report, as (start, AD type, bytes): at most `MOST_PATTERNS`.

    Whatever sends flags, as nearly all sensors do; and the service data of firmware that may leave them out (ATC and
    pvvx, in their own formats and in the two that they borrow). Whoever sends neither needs an active scan.
    """
    flags = [(0, 0x01, bytes([value])) for value in _FLAGS]
    return flags + [(0, 0x16, bytes.fromhex(text[4:8])[::-1]) for text in (_ENVIRONMENT, _BTHOME, _MIBEACON)]
