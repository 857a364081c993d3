"""A microcontroller that prints lines of text, read by profiles alone: what a line says, by the layout that it has."""

from collections import Counter

from device_drivers.driver import Clock
from device_drivers.serial_line.codec import Sample
from device_drivers.serial_line.options import LineOptions
from device_drivers.serial_line.stream import StreamDriver
from device_drivers.serial_line.text_line import LineFinder, fields_of, read_line
from firmware_profiles.errors import ProfileError
from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import ProfileSet

_MOST_FIRMWARES = 16
"""That one line may state until it is opened again. A device that states a new one each time must not fill the memory,
here or in the tables of series behind."""


def open_lines(options: LineOptions, profiles: ProfileSet, clock: Clock) -> StreamDriver:
    """A driver that is entered to open its line.

    Raises ProfileError for a model whose profiles are all of devices that send no lines.
    """
    of_model = [profile for profile in profiles if options.model in profile.models]
    known = [profile for profile in of_model if profile.line is not None]
    if of_model and not known:
        raise ProfileError(
            options.model, "line", f"{of_model[0].name} is of no device that sends lines; write the kind it is of"
        )
    return StreamDriver(options, options.baudrate, LineReader(options, known), profiles, clock)


class LineReader:
    """A `FrameReader` of lines. profiles: of one model, each with a layout.

    Where the line states its firmware, the profile for it decides; without one it is kept raw, as is every line of a
    model that no profile knows.
    """

    def __init__(self, options: LineOptions, profiles: list[FirmwareProfile]) -> None:
        self._firmware = options.firmware
        self._profiles = profiles
        self._fields = {profile.name: fields_of(profile) for profile in profiles}
        layouts = [profile.line for profile in profiles if profile.line is not None]
        # What begins in the middle of a line is told by its brace or its checksum; of other lines nobody could tell.
        is_told = [layout.format == "json" or layout.checksum != "none" for layout in layouts]
        self._finder = LineFinder(is_whole_first=bool(is_told) and all(is_told))
        self._faults: Counter[str] = Counter()
        self._firmwares: set[str] = set()

    @property
    def faults(self) -> dict[str, int]:
        """skipped_bytes: of the first line, which may be torn, and of those too_long. The others as `read_line` counts
        them; many_firmwares: lines with yet another version."""
        return {"skipped_bytes": self._finder.skipped_bytes, "too_long": self._finder.too_long, **self._faults}

    def feed(self, data: bytes) -> list[tuple[Sample, bytes]]:
        """See `FrameReader`."""
        samples = ((self._sample(line), line) for line in self._finder.feed(data))
        return [(sample, line) for sample, line in samples if sample is not None]

    def _sample(self, line: bytes) -> Sample | None:
        if not self._profiles:
            return Sample({})
        unknown: Sample | None = None
        # Of the layouts that its model's firmwares have, the faults count of the one that is tried last alone.
        faults: Counter[str] = Counter()
        for profile in self._profiles:
            assert profile.line is not None
            faults = Counter()
            said = read_line(profile.line, self._fields[profile.name], line, faults)
            if said is None:
                continue
            firmware = self._firmware or said.firmware
            if profile.firmware.holds(firmware):
                self._faults += faults
                return self._bounded(Sample(said.values, said.firmware))
            unknown = Sample({}, said.firmware)
        if unknown is not None:
            return self._bounded(unknown)
        self._faults += faults
        return None

    def _bounded(self, sample: Sample) -> Sample | None:
        if sample.firmware not in self._firmwares:
            if len(self._firmwares) == _MOST_FIRMWARES:
                self._faults["many_firmwares"] += 1
                return None
            self._firmwares.add(sample.firmware)
        return sample
