"""Which advertisements of a device say something new, over all adapters that hear it. No clock: time comes with them.

No adapter is preferred: whichever hears a packet first brings it, and each may be gone tomorrow.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from device_drivers.ble.advert import Advert
from device_drivers.ble.families import Family
from device_drivers.ble.heard import Refusal

# A sensor that does not number its packets is taken to repeat itself when it says the same within this time, which
# is bthome-ble's own window. Without it, BlueZ's active scan would make 20 readings a second of one measurement.
UNNUMBERED_REPEAT_S = 4.0

# How much later than another adapter one may bring a numbered packet. BlueZ reports an unchanging advertisement again
# within 3 s in passive mode; a sensor that restarts takes longer to say the same under the same number.
OVERTAKEN_S = 10.0

# What is remembered of one device: more than any sensor sends while one adapter is behind the other.
_REMEMBERED = 8

_Content = tuple[Mapping[str, bytes], Mapping[int, bytes]]


@dataclass(slots=True)
class _Said:
    """By one adapter, last. whole: as BlueZ gathered it. news: the part that changed; None where that is unknown."""

    whole: _Content
    news: _Content | None


@dataclass(slots=True)
class _Packet:
    """adapters: who has brought it."""

    content: _Content
    at_us: int
    adapters: set[str]


class Arrivals:
    """What was heard of one device last."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._said: dict[str, _Said] = {}
        self._packets: deque[_Packet] = deque(maxlen=_REMEMBERED)

    def news(self, advert: Advert) -> Advert | Refusal:
        """The advertisement, with only what its family reads and what changed; a Refusal where it says nothing new."""
        whole = self._family.part(advert)
        if not whole[0] and not whole[1]:
            return Refusal.OTHER_FORMAT
        said = self._said.get(advert.adapter)
        same = said is not None and said.whole == whole
        if same:
            assert said is not None
            news = said.news
        else:
            news = self._changed(whole, said)
            self._said[advert.adapter] = _Said(whole, news)
        if news is None:
            return Refusal.AMBIGUOUS
        advert = advert._replace(services=news[0], manufacturers=news[1])
        if self._is_repeat(advert, news, same):
            return Refusal.REPEATED
        self._packets.append(_Packet(news, advert.taken_at_us, {advert.adapter}))
        return advert

    def _changed(self, whole: _Content, said: _Said | None) -> _Content | None:
        """BlueZ adds what a device says to what it said before, by service and company."""
        services, manufacturers = whole
        if len(services) + len(manufacturers) == 1:
            return whole
        if said is not None:
            services = {key: data for key, data in services.items() if said.whole[0].get(key) != data}
            manufacturers = {key: data for key, data in manufacturers.items() if said.whole[1].get(key) != data}
        if self._family.data_in_company and len(manufacturers) != 1:
            return None
        return services, manufacturers

    def _is_repeat(self, advert: Advert, content: _Content, same: bool) -> bool:
        """same: whether this adapter brings what it brought last."""
        numbered: bool | None = None
        for at, packet in enumerate(reversed(self._packets)):
            if packet.content != content:
                continue
            if numbered is None:
                numbered = self._family.numbered(advert)
            age_us = advert.taken_at_us - packet.at_us
            if age_us >= (OVERTAKEN_S if numbered else UNNUMBERED_REPEAT_S) * 1e6 and not (numbered and at == 0):
                return False
            if numbered or same or advert.adapter not in packet.adapters:
                packet.adapters.add(advert.adapter)
                return True
            # It has brought this, and something else since: the device says it again. Or an earlier one, late.
        return False
