"""Everything that some adapters hear while somebody looks: for a technician, not for readings."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

from device_drivers.ble.radio import Radio, advert_of
from device_drivers.ble.recognition import MOST_DEVICES, Recognition, Recognizer
from device_drivers.driver import Clock
from device_drivers.errors import LinkLost

# A survey that falls silent is begun again by whoever looks.
_NO_RECOVERY_S = 86_400.0


class Survey:
    """devices: what is known of each by now, by address; as many as the recognizer knows. heard_by: adapters that heard
    it. faults: adapters that do not listen, and why."""

    def __init__(self, recognizer: Recognizer, clock: Clock) -> None:
        self.devices: dict[str, Recognition] = {}
        self.heard_by: dict[str, set[str]] = {}
        self.faults: dict[str, str] = {}
        self._recognizer = recognizer
        self._clock = clock

    def hear(self, adapter: str, device: BLEDevice, data: AdvertisementData) -> None:
        """Called for each advertisement."""
        advert = advert_of(adapter, device, data, self._clock())
        address_type = device.details["props"].get("AddressType", "")
        # Taken out first: so those that were heard last stand at the end.
        self.devices.pop(device.address, None)
        self.devices[device.address] = self._recognizer.hear(advert, address_type)
        self.heard_by.setdefault(device.address, set()).add(adapter)
        if len(self.devices) > MOST_DEVICES:
            oldest = next(iter(self.devices))
            del self.devices[oldest], self.heard_by[oldest]


@asynccontextmanager
async def survey(adapters: Sequence[str], recognizer: Recognizer, clock: Clock) -> AsyncIterator[Survey]:
    """Listens until left, and asks sensors for more (active scanning), as names are often in what they answer."""
    found = Survey(recognizer, clock)
    radios = [
        Radio(adapter, "active", _NO_RECOVERY_S, found.hear, Counter(), lambda: None, lambda: None)
        for adapter in adapters
    ]
    try:
        for adapter, radio in zip(adapters, radios, strict=True):
            try:
                await radio.open()
            except LinkLost as error:
                found.faults[adapter] = str(error)
        yield found
    finally:
        for radio in radios:
            await radio.close()
