"""Units of measurement: UCUM codes as profiles state them, and the symbols that people read.

The grammar and the atoms are those of the Unified Code for Units of Measure (ucum.org/ucum, version 2.2), case
sensitive; of its atoms those that sensors use. Magnitudes are left out: nothing here converts.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

MAX_CODE = 64
"""Characters of a code; it also bounds how deep brackets nest."""

_BASE = ("m", "s", "g", "rad", "K", "C", "cd", "level")
"""UCUM's base units, and the level of a logarithmic one: an RSSI in dB is no humidity in %, though both are numbers."""

Dimension = tuple[int, ...]
"""Exponents of `_BASE`."""

_NONE: Dimension = (0,) * len(_BASE)


class UnitError(ValueError):
    """No UCUM code, or one of atoms that nothing here knows; says what would be right."""


@dataclass(frozen=True, slots=True)
class Unit:
    """symbol: as people write it, empty for a plain number."""

    dimension: Dimension
    symbol: str


PREFIXES: Mapping[str, str] = {p: p for p in (*"YZEPTGMkhdcmnpfazy", "da", "Ki", "Mi", "Gi", "Ti")} | {"u": "µ"}
"""With the symbol of each."""

METRIC: Mapping[str, tuple[str, str]] = {
    "m": ("m", "m"),
    "s": ("s", "s"),
    "g": ("g", "g"),
    "rad": ("rad", "rad"),
    "K": ("K", "K"),
    "C": ("C", "C"),
    "cd": ("cd", "cd"),
    "B": ("B", "level"),
    "B[SPL]": ("B", "level"),
    "B[V]": ("BV", "level"),
    "B[mV]": ("BmV", "level"),
    "B[uV]": ("BµV", "level"),
    "B[W]": ("BW", "level"),
    "B[kW]": ("BkW", "level"),
    "Np": ("Np", "level"),
    "mol": ("mol", "1"),
    "sr": ("sr", "rad2"),
    "Hz": ("Hz", "/s"),
    "N": ("N", "g.m/s2"),
    "Pa": ("Pa", "N/m2"),
    "J": ("J", "N.m"),
    "W": ("W", "J/s"),
    "A": ("A", "C/s"),
    "V": ("V", "J/C"),
    "F": ("F", "C/V"),
    "Ohm": ("Ω", "V/A"),
    "S": ("S", "A/V"),
    "Wb": ("Wb", "V.s"),
    "Cel": ("°C", "K"),
    "T": ("T", "Wb/m2"),
    "H": ("H", "Wb/A"),
    "lm": ("lm", "cd.sr"),
    "lx": ("lx", "lm/m2"),
    "Bq": ("Bq", "/s"),
    "Ci": ("Ci", "Bq"),
    "Gy": ("Gy", "J/g"),
    "Sv": ("Sv", "J/g"),
    "kat": ("kat", "/s"),
    "l": ("l", "m3"),
    "L": ("L", "m3"),
    "ar": ("a", "m2"),
    "t": ("t", "g"),
    "bar": ("bar", "Pa"),
    "m[Hg]": ("mHg", "Pa"),
    "m[H2O]": ("mH₂O", "Pa"),
    "eV": ("eV", "J"),
    "cal": ("cal", "J"),
    "[g]": ("gₙ", "m/s2"),
    "bit": ("bit", "1"),
    "By": ("B", "1"),
    "Bd": ("Bd", "/s"),
}
"""Atoms that take prefixes: symbol, and what defines their dimension."""

NON_METRIC: Mapping[str, tuple[str, str]] = {
    "10*": ("10", "1"),
    "10^": ("10", "1"),
    "%": ("%", "1"),
    "[ppth]": ("‰", "1"),
    "[ppm]": ("ppm", "1"),
    "[ppb]": ("ppb", "1"),
    "[pptr]": ("ppt", "1"),
    "[pH]": ("pH", "/m3"),
    "deg": ("°", "rad"),
    "min": ("min", "s"),
    "h": ("h", "s"),
    "d": ("d", "s"),
    "wk": ("wk", "s"),
    "mo": ("mo", "s"),
    "a": ("yr", "s"),
    "atm": ("atm", "Pa"),
    "[degF]": ("°F", "K"),
    "[psi]": ("psi", "Pa"),
    "[in_i]": ("in", "m"),
    "[ft_i]": ("ft", "m"),
    "[mi_i]": ("mi", "m"),
    "[kn_i]": ("kn", "m/s"),
    "[lb_av]": ("lb", "g"),
    "[oz_av]": ("oz", "g"),
    "[gal_us]": ("gal", "m3"),
}
"""Atoms that take none, alike."""

SYMBOLS: Mapping[str, str] = {"1": "", "dB{mW}": "dBm", "{particles}/dL": "1/0.1L"}
"""Codes whose symbol is not made of their atoms'. UCUM has no dBm: its `dB[W]` would be 30 less, so the reference
stands in an annotation. Series in databases carry these symbols: none may change."""

QUANTITIES: Mapping[str, tuple[str, ...]] = {
    "temperature": ("Cel",),
    "dew_point": ("Cel",),
    "humidity": ("%",),
    "pressure": ("hPa",),
    "illuminance": ("lx",),
    "co2": ("[ppm]",),
    "co": ("[ppm]", "mg/m3"),
    "tvoc": ("ug/m3", "[ppb]"),
    "formaldehyde": ("ug/m3", "[ppb]"),
    **dict.fromkeys(("pm1", "pm2_5", "pm4", "pm10", "pm1_standard", "pm2_5_standard", "pm10_standard"), ("ug/m3",)),
    **{f"particles_{size}": ("{particles}/dL",) for size in ("0_3", "0_5", "1", "2_5", "4", "5", "10")},
    "particle_size": ("um",),
    "distance": ("m",),
    "speed": ("m/s",),
    "acceleration": ("m/s2",),
    "mass": ("g",),
    "voltage": ("V",),
    "current": ("A",),
    "power": ("W",),
    "energy": ("J",),
    "frequency": ("Hz",),
    "rssi": ("dB{mW}",),
    "sound_level": ("dB[SPL]",),
    **dict.fromkeys(("motion", "occupancy", "presence", "moving", "people", "battery_low"), ("1",)),
    "battery": ("%",),
}
"""With what a quantity's unit must be commensurable, that is of one of these dimensions; others are free."""

_WRITTEN: Mapping[str, str] = {
    "°C": "Cel",
    "C": "Cel",
    "degC": "Cel",
    "°F": "[degF]",
    "ppm": "[ppm]",
    "ppb": "[ppb]",
    "dBm": "dB{mW}",
    "%RH": "%",
    "lux": "lx",
    "µg/m³": "ug/m3",
    "µg/m3": "ug/m3",
    "ug/m^3": "ug/m3",
    "mg/m³": "mg/m3",
    "µm": "um",
    "m/s²": "m/s2",
    "°": "deg",
    "Ω": "Ohm",
    "1/0.1L": "{particles}/dL",
    "mmHg": "mm[Hg]",
    "psi": "[psi]",
}
"""What people write, with the code of it: to say what would be right."""

_SUPERSCRIPTS = str.maketrans("+-0123456789", "⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_NAME = re.compile(r"10[*^]|(?:[A-Za-z%_]|\[[!-Z\\^-z|~]*\])+")
_EXPONENT = re.compile(r"[+-]?[0-9]{1,3}")
_FACTOR = re.compile(r"[1-9][0-9]{0,8}")
_ANNOTATION = re.compile(r"\{[!-z|~]*\}")


@lru_cache(1024)
def parse_unit(code: str) -> Unit:
    """What a UCUM code stands for. Raises UnitError."""
    if not 0 < len(code) <= MAX_CODE:
        raise UnitError(_remedy(code))
    found = _Reader(code).whole()
    return Unit(found.dimension, SYMBOLS.get(code, found.symbol))


def commensurable(quantity: str, unit: Unit) -> bool:
    """Whether a quantity can be stated in this unit; one that is not in QUANTITIES can in any."""
    wanted = QUANTITIES.get(quantity)
    return wanted is None or any(parse_unit(code).dimension == unit.dimension for code in wanted)


def _remedy(code: str) -> str:
    if not code:
        return '"" is no unit: write a UCUM code such as "Cel", or "1" for a plain number, or yes and no'
    meant = _WRITTEN.get(code)
    if meant is not None:
        return f'"{code}" is what people read: write the UCUM code "{meant}"'
    known = [*_WRITTEN.values(), *METRIC, *NON_METRIC]
    near = difflib.get_close_matches(code[:MAX_CODE], known, n=1)
    guess = f': did you mean "{near[0]}"?' if near else ', such as "Cel", "%", "[ppm]", "ug/m3", "1" for a plain number'
    return f'"{code[:MAX_CODE]}" is no UCUM code that is known here{guess}'


class _Reader:
    """Of one code, from left to right (UCUM, section 2.2, the grammar of terms)."""

    def __init__(self, code: str) -> None:
        self._code = code
        self._at = 0

    def whole(self) -> Unit:
        found = self._term()
        if self._at < len(self._code):
            raise self._fault()
        return found

    def _fault(self) -> UnitError:
        return UnitError(_remedy(self._code))

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._code, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _next(self) -> str:
        return self._code[self._at : self._at + 1]

    def _term(self) -> Unit:
        found = Unit(_NONE, "1") if self._next() == "/" else self._component()
        while self._next() in (".", "/"):
            operator = self._next()
            self._at += 1
            more = self._component()
            sign = 1 if operator == "." else -1
            dimension = tuple(a + sign * b for a, b in zip(found.dimension, more.dimension, strict=True))
            # What an annotation alone stands for is 1, and shows only where something must.
            left = found.symbol or ("1" if sign < 0 else "")
            right = (("·" if sign > 0 else "/") if left else "") + more.symbol if more.symbol else ""
            found = Unit(dimension, left + right)
        return found

    def _component(self) -> Unit:
        if self._next() == "(":
            self._at += 1
            inner = self._term()
            if self._next() != ")":
                raise self._fault()
            self._at += 1
            found = Unit(inner.dimension, f"({inner.symbol})")
        elif self._take(_ANNOTATION):
            return Unit(_NONE, "")
        else:
            found = self._simple()
        self._take(_ANNOTATION)
        return found

    def _simple(self) -> Unit:
        name = self._take(_NAME)
        if not name:
            factor = self._take(_FACTOR)
            if not factor:
                raise self._fault()
            return Unit(_NONE, factor)
        found = _atom(name)
        if found is None:
            raise self._fault()
        exponent = self._take(_EXPONENT)
        if not exponent:
            return found
        dimension = tuple(int(exponent) * n for n in found.dimension)
        return Unit(dimension, found.symbol + exponent.translate(_SUPERSCRIPTS))


def _atom(name: str) -> Unit | None:
    """An atom with or without a prefix; a whole atom goes before a prefix and another (`cd` is the candela)."""
    for prefix, prefix_symbol in {"": "", **PREFIXES}.items():
        rest = name.removeprefix(prefix) if name.startswith(prefix) else ""
        definition = METRIC.get(rest) or (NON_METRIC.get(rest) if not prefix else None)
        if definition is not None:
            return Unit(_dimension(definition[1]), prefix_symbol + definition[0])
    return None


def _dimension(definition: str) -> Dimension:
    if definition in _BASE:
        return tuple(int(base == definition) for base in _BASE)
    return _Reader(definition).whole().dimension
