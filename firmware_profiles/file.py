"""One profile's file: TOML, read once into a frozen profile, or every mistake in it named."""

import difflib
import json
import os
import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from firmware_profiles.errors import ProfileError
from firmware_profiles.profile import FirmwareProfile

MAX_FILE = 262_144
"""Bytes of a profile, a hundred times what any needs: a path that names a dump must not fill the memory."""

_MOST_MISTAKES = 50
"""That are named of one file: what is wrong in a hundred places is not the file that was meant."""

_SHOWN = 60  # characters of a wrong value that are shown

Schema = Mapping[str, Any]
Location = Sequence[int | str]


def read_profile(path: Path, name: str) -> FirmwareProfile | list[ProfileError]:
    """The profile in the file, or every mistake in it. name: how mistakes name the file."""
    try:
        table = _table(path, name)
    except ProfileError as error:
        return [error]
    try:
        # By way of JSON, since strict validation of Python objects would refuse lists for tuples.
        return FirmwareProfile.model_validate_json(json.dumps(table, default=str), strict=True)
    except ValidationError as error:
        return _mistakes(name, error)
    except (RecursionError, ValueError):
        # A dotted key of a thousand parts, a hexadecimal number of a thousand digits: TOML's reader takes them.
        return [ProfileError(name, "", "is nested too deeply, or has a number too long: write a profile")]


def _table(path: Path, name: str) -> dict[str, object]:
    content = _content(path, name)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ProfileError(
            name, "", f"line {line}: byte {content[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        ) from error
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ProfileError(name, "", "is nested too deeply: write a profile") from error
    # TOMLDecodeError, and what int() says of a number with thousands of digits.
    except ValueError as error:
        raise ProfileError(name, "", f"is not TOML: {error}; correct the line") from error


def _content(path: Path, name: str) -> bytes:
    try:
        # Without O_NONBLOCK a FIFO would be waited for until somebody wrote into it.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(handle).st_mode
            if not stat.S_ISREG(mode):
                what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
                raise ProfileError(name, "", f"is {what}; name a TOML file")
            with os.fdopen(handle, "rb", closefd=False) as file:
                content = file.read(MAX_FILE + 1)
        finally:
            os.close(handle)
    except FileNotFoundError as error:
        raise ProfileError(name, "", "there is no such file; correct its name or where its link leads") from error
    except PermissionError as error:
        raise ProfileError(name, "", "this user may not read it; make it readable") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ProfileError(name, "", f"cannot be read ({why}); name a TOML file") from error
    if len(content) > MAX_FILE:
        raise ProfileError(name, "", f"has more than {MAX_FILE} bytes; name a profile")
    return content


def _mistakes(name: str, error: ValidationError) -> list[ProfileError]:
    schema = FirmwareProfile.model_json_schema()
    found: dict[str, ProfileError] = {}
    renamed = set()
    # What is unknown first: it names the cause of what is missing.
    for detail in sorted(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden"):
        at, within = _resolved(schema, detail["loc"])
        key = key_path([*at, *([] if detail["type"] != "profile" else [detail["ctx"]["key"]])])
        near = _near(schema, at, within) if detail["type"] == "extra_forbidden" else None
        if near is not None:
            renamed.add(key_path([*at[:-1], near]))
        # Of a value that may be one thing or another each alternative complains: the first says enough.
        found.setdefault(key, ProfileError(name, key, _remedy(detail, within, near)))
    told = [mistake for key, mistake in found.items() if not (key in renamed and "is missing" in mistake.remedy)]
    return told[:_MOST_MISTAKES]


def _resolved(schema: Schema, loc: Location) -> tuple[list[int | str], Schema]:
    """The location without what is none in the file (alternatives of a type), and the schema of its table."""
    at: list[int | str] = []
    here: Schema = schema
    within: Schema = schema
    for part in loc:
        if part == "[key]":
            continue
        table = _table_of(schema, here)
        if isinstance(part, int):
            inner = table.get("items", {})
        elif "properties" in table:
            inner = table["properties"].get(part, {})
        elif isinstance(table.get("additionalProperties"), dict) or "patternProperties" in table:
            patterned = table.get("patternProperties", {})
            inner = next(iter(patterned.values()), table.get("additionalProperties"))
        else:
            continue
        at.append(part)
        here, within = inner, table
    return at, within


def _table_of(schema: Schema, part: Any) -> Schema:
    """What `part` of the schema refers to, of alternatives the one that is a table or an array."""
    for choice in part.get("anyOf", [part]):
        found = schema["$defs"][choice["$ref"].rpartition("/")[2]] if "$ref" in choice else choice
        if found.get("type") in ("object", "array"):
            return dict(found)
    return {}


def _near(schema: Schema, at: Location, within: Schema) -> str | None:
    near = difflib.get_close_matches(str(at[-1]), within.get("properties", {}), n=1)
    return near[0] if near else None


def _remedy(detail: Any, within: Schema, near: str | None) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = ", ".join(within.get("properties", {}))
        return "unknown key; " + (f"did you mean {near}?" if near else f"known here: {known}")
    if kind == "missing":
        described = within.get("properties", {}).get(detail["loc"][-1], {}).get("description", "add it")
        return f"is missing; {described}"
    if kind == "profile":
        return str(context["remedy"])
    if kind in ("value_error", "assertion_error"):
        return re.sub(r"^\w+ error, ", "", detail["msg"])
    return f"{_shown(value)} is wrong; {_right(kind, context, detail['msg'])}"


_WANTED = {
    "int_type": "write a whole number",
    "int_from_float": "write a whole number",
    "float_type": "write a number",
    "string_type": 'write text in quotes, such as "text"',
    "model_type": "write a table of keys",
    "mapping_type": "write a table of keys",
    "dict_type": "write a table of keys",
    "tuple_type": "write an array in square brackets",
    "finite_number": "write a finite number",
    "too_short": "write at least one",
    "string_too_short": "write some text",
}
_BOUNDS = {
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_long": "write at most {max_length} characters",
    "literal_error": "must be {expected}",
}
_PATTERNS = {
    r"^[a-z0-9_]{1,128}$": "write 1 to 128 of a-z, 0-9 and _",
    r"^[a-z0-9-]{1,120}/[1-9][0-9]{0,5}$": 'write a name of a-z, 0-9 and -, and a revision, such as "acme-th100/1"',
    r"^https?://\S{1,290}$": 'write an address such as "https://example.com/manual.pdf"',
}


def _right(kind: str, context: Mapping[str, object], said: str) -> str:
    if kind in _WANTED:
        return _WANTED[kind]
    if kind in _BOUNDS:
        return _BOUNDS[kind].format_map(context)
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(str(context["pattern"]), f"must match {context['pattern']}")
    return re.sub(r"^(Input|String|Value) ", "", said)


def key_path(loc: Location) -> str:
    """`sampling.on_change[1]`"""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
