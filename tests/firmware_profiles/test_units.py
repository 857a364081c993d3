"""Units: the grammar against an independent reading of UCUM, and the symbols that series in databases carry."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ucumvert import InvalidUcumError, PintUcumRegistry, parse_ucum
from ucumvert.xml_util import get_metric_units, get_non_metric_units, get_prefixes

from firmware_profiles import units
from firmware_profiles.selection import ProfileSet
from firmware_profiles.units import METRIC, NON_METRIC, PREFIXES, QUANTITIES, UnitError, commensurable, parse_unit

# What pint has and UCUM has not (it counts things by the mole, and candelas), or the other way round (radian).
_PINT = {"m": "[length]", "s": "[time]", "g": "[mass]", "K": "[temperature]", "A": "[current]", "cd": "[luminosity]"}
# Levels have a dimension of our own. Pint knows no [pH], and ucumvert takes [g], the acceleration, for the gram
# and the hectobar for Planck's constant.
_OTHERWISE = re.compile(r"(B|Np)(\[|$)|\[pH\]|\[g\]|^hbar$")


@cache
def registry() -> Any:
    return PintUcumRegistry()


def ucum_atoms() -> tuple[list[str], list[str]]:
    base = ["m", "s", "g", "rad", "K", "C", "cd"]
    return [*base, *get_metric_units()], get_non_metric_units()


def codes() -> Iterator[tuple[str, bool]]:
    """Every atom of UCUM with every prefix that it takes, and whether it is one of ours."""
    metric, others = ucum_atoms()
    for atom in metric:
        for prefix in ("", *get_prefixes()):
            yield prefix + atom, atom in METRIC
    for atom in others:
        yield atom, atom in NON_METRIC


def readings_of(code: str) -> list[str]:
    """The atoms that a code may stand for by UCUM: `dar` is the deciare, and would be the daR of another table."""
    metric, others = ucum_atoms()
    prefixed = [atom for atom in metric if code.endswith(atom) and code.removesuffix(atom) in ("", *get_prefixes())]
    return [*prefixed, *(atom for atom in others if atom == code)]


def test_atoms_and_prefixes_are_ucums() -> None:
    metric, others = ucum_atoms()
    assert set(METRIC) <= set(metric)
    assert set(NON_METRIC) <= set(others)
    assert set(PREFIXES) == set(get_prefixes())


def test_every_atom_of_ucum_with_every_prefix_is_known_or_refused() -> None:
    told = wrong = 0
    for code, ours in codes():
        if ours:
            parse_unit(code)
            told += 1
        elif not any(atom in METRIC or atom in NON_METRIC for atom in readings_of(code)):
            with pytest.raises(UnitError):
                parse_unit(code)
            wrong += 1
    assert told > 1000
    assert wrong > 1000


def test_an_atom_that_takes_no_prefix_gets_none() -> None:
    for atom in NON_METRIC:
        for prefix in get_prefixes():
            if not readings_of(prefix + atom):
                with pytest.raises(UnitError):
                    parse_unit(prefix + atom)


def test_every_dimension_is_ucums() -> None:
    compared = [code for code, ours in codes() if ours and not _OTHERWISE.search(code)]
    # Pint gives no prefix to a unit with an offset; a prefix does not change a dimension.
    wanted = {code: pint_dimension("Cel" if code.endswith("Cel") else code) for code in compared}
    assert {code: parse_unit(code).dimension for code in compared} == wanted
    assert len(compared) > 900


def test_levels_and_what_pint_lacks() -> None:
    level = tuple(int(base == "level") for base in units._BASE)
    assert {parse_unit(code).dimension for code in ("B", "dB", "dB{mW}", "dB[SPL]", "B[kW]", "Np")} == {level}
    assert parse_unit("[g]").dimension == parse_unit("m[g]").dimension == parse_unit("m/s2").dimension
    assert parse_unit("[pH]").dimension == parse_unit("mol/l").dimension


def pint_dimension(code: str) -> tuple[int, ...]:
    """By our base units, without the radian and the mole, which pint holds for a plain number and for a base unit."""
    found = dict(registry().from_ucum(code).dimensionality)
    found.pop("[substance]", None)
    found.pop("[information]", None)
    exponents = {name: int(found.pop(dimension, 0)) for name, dimension in _PINT.items()}
    assert not found, (code, found)
    mine = dict(zip(units._BASE, parse_unit(code).dimension, strict=True))
    # The coulomb is UCUM's base, the ampere pint's.
    wanted = [exponents["m"], exponents["s"] - exponents["A"], exponents["g"], mine["rad"], exponents["K"]]
    return (*wanted, exponents["A"], exponents["cd"], 0)


EXPRESSIONS = st.recursive(
    st.sampled_from(["m", "s", "kg", "Pa", "mV", "{x}", "10", "%", "L", "10*-3", "m2", "s-1", "Cel{air}", "[ppm]"]),
    lambda inner: st.tuples(inner, st.sampled_from("./"), inner).map("".join) | inner.map("({})".format),
    max_leaves=6,
)


# Its own parser is made at the first example.
@settings(deadline=None, max_examples=40)
@given(EXPRESSIONS | EXPRESSIONS.map("/{}".format) | st.text("mskg./()0-+{}[]µ°", max_size=6))
@example("1/(m2.s)")
@example("m//s")
@example("m{")
@example("()")
def test_the_grammar_is_ucums(code: str) -> None:
    if not 0 < len(code) <= units.MAX_CODE or re.search(r"[0-9]{4}|\+|^0|[^0-9*^a-z]0|-$", code):
        return
    try:
        ours = parse_unit(code) is not None
    except UnitError:
        ours = False
    assert ours == parses(code)


def parses(code: str) -> bool:
    try:
        parse_ucum(code)
    except InvalidUcumError:
        return False
    return True


# Series in databases have these: a change here makes a second series of each.
CARRIED = {
    "1": "",
    "%": "%",
    "Cel": "°C",
    "K": "K",
    "hPa": "hPa",
    "lx": "lx",
    "[ppm]": "ppm",
    "[ppb]": "ppb",
    "ug/m3": "µg/m³",
    "mg/m3": "mg/m³",
    "V": "V",
    "mV": "mV",
    "cm": "cm",
    "mm": "mm",
    "um": "µm",
    "cm/s": "cm/s",
    "m/s2": "m/s²",
    "dB{mW}": "dBm",
    "dB[SPL]": "dB",
    "{particles}/dL": "1/0.1L",
    "{people}": "",
    "/min": "1/min",
    "kW.h": "kW·h",
    "uS/cm": "µS/cm",
    "m3/h": "m³/h",
    "[degF]": "°F",
    "mm[Hg]": "mmHg",
    "deg": "°",
    "kg": "kg",
    "W": "W",
    "A": "A",
    "L": "L",
    "m": "m",
    "m3": "m³",
    "m/s": "m/s",
    "deg/s": "°/s",
    "{rotations}/min": "1/min",
    "s": "s",
    "min": "min",
    "J/(kg.K)": "J/(kg·K)",
}


def test_symbols_stay_as_series_carry_them() -> None:
    assert {code: parse_unit(code).symbol for code in CARRIED} == CARRIED
    for profile in ProfileSet.load():
        for channel in profile.channels.values():
            assert channel.unit in CARRIED, f"{profile.name}: enter the symbol of {channel.unit}, which never changes"


@given(EXPRESSIONS)
def test_every_symbol_fits_the_wire_format(code: str) -> None:
    if len(code) <= units.MAX_CODE:
        symbol = parse_unit(code).symbol
        assert symbol.isprintable()
        assert len(symbol.encode()) <= 128 + 64


@pytest.mark.parametrize(
    ("quantity", "good", "bad"),
    [
        ("temperature", ["Cel", "K", "[degF]", "mK"], ["C", "%", "1", "Pa"]),
        ("humidity", ["%", "1"], ["Cel", "dB", "g/m3"]),
        ("pressure", ["hPa", "bar", "mm[Hg]", "[psi]"], ["N", "m"]),
        ("illuminance", ["lx", "klx", "lm/m2"], ["lm", "cd", "W/m2"]),
        ("co2", ["[ppm]", "%"], ["ug/m3"]),
        ("tvoc", ["ug/m3", "mg/m3", "[ppb]"], ["ug"]),
        ("pm2_5", ["ug/m3", "mg/m3"], ["{particles}/dL", "um"]),
        ("particles_0_3", ["{particles}/dL", "/cm3", "10*6/m3"], ["1", "dL"]),
        ("distance", ["cm", "mm", "[in_i]"], ["m2"]),
        ("speed", ["cm/s", "km/h", "[kn_i]"], ["cm.s"]),
        ("rssi", ["dB{mW}", "dB[W]"], ["1", "%"]),
        ("presence", ["1", "{yes}"], ["m", "dB"]),
        ("something_new", ["Cel", "m", "dB"], []),
    ],
)
def test_a_quantity_has_a_dimension(quantity: str, good: list[str], bad: list[str]) -> None:
    assert [unit for unit in good if not commensurable(quantity, parse_unit(unit))] == []
    assert [unit for unit in bad if commensurable(quantity, parse_unit(unit))] == []


def test_every_example_of_a_quantity_and_every_remedy_is_a_unit() -> None:
    for code in (*units._WRITTEN.values(), *(code for codes in QUANTITIES.values() for code in codes)):
        parse_unit(code)


@given(st.text(max_size=80))
@example("°C")
@example("C°")
@example("(" * 64)
@example("m" * 65)
@example("m-9999999999999999")
def test_whatever_is_no_unit_is_told_what_would_be_right(code: str) -> None:
    assert re.search(r'^$|write the UCUM code|did you mean|such as "Cel"', refusal_of(code))


def refusal_of(code: str) -> str:
    try:
        parse_unit(code)
    except UnitError as refusal:
        return str(refusal)
    return ""
