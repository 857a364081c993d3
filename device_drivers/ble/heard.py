"""What a decoder makes of one advertisement."""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from device_drivers.ble.advert import Advert


class Refusal(Enum):
    """Why an advertisement gave no values; the text is the kind of fault under which it is counted.

    REPEATED: the measurement that was heard last, by whichever adapter. AMBIGUOUS: several values were gathered
    before we listened, and which is the latest cannot be told. WITHOUT_VALUES: it only says that the device is there.
    OTHER_FORMAT: of a known device, in a format that its family does not read. UNAUTHENTIC: its integrity check
    fails, by damage, forgery or a wrong bindkey; WRONG_KEY: it fails always (see `KeyDoubt`). PLAIN: not encrypted
    though a bindkey is set, which anybody could have sent. REPLAYED: its encryption counter went back, as in a
    recording.
    """

    REPEATED = "repeats"
    AMBIGUOUS = "ambiguous"
    WITHOUT_VALUES = "without_values"
    OTHER_FORMAT = "other_formats"
    NO_KEY = "no_bindkey"
    UNAUTHENTIC = "unauthentic"
    WRONG_KEY = "wrong_bindkey"
    PLAIN = "plain_despite_bindkey"
    REPLAYED = "replays"
    UNDECODABLE = "undecodable"


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody here knows the model or firmware; each is empty where the advertisement does not state it."""

    model: str = ""
    firmware: str = ""


@dataclass(slots=True)
class Heard:
    """What one advertisement says: channels by name; yes and no are 1 and 0, a quantity has one unit.

    model, firmware: as the decoder's library tells them; firmware empty where the advertisement does not state one.
    events: of buttons and dials, which are not measurements. not_numbers: texts, times, infinities, a sensor's own
    mark for "invalid".
    """

    values: dict[str, float]
    model: str
    firmware: str = ""
    events: int = 0
    not_numbers: int = 0

    def identity(self, model: str | None, firmware: str | None) -> tuple[str, str]:
        """Model and firmware by which a profile is chosen, where a configuration may state them."""
        configured = firmware or ""
        # A device that speaks another major version than was configured is what it says it is.
        agrees = not self.firmware or configured.partition(".")[0] == self.firmware
        return model or self.model, configured if configured and agrees else self.firmware


class Decoder(Protocol):
    """Decodes what one device sends; holds what its packets have to be compared with."""

    def decode(self, advert: Advert) -> Heard | Refusal | Unknown:
        """Of the parts that the family reads; never raises, whatever the bytes are."""
