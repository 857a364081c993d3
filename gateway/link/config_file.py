"""Configuration files of both daemons: TOML, parsed once into frozen types, every mistake named at once.

What a technician sees of a bad file is one line for each mistake: file, key, what is wrong, what would be right.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError

EXIT_CONFIG = 2
"""Exit code of a command that the configuration keeps from working."""

MAX_FILE = 1_048_576
"""Bytes of a configuration file: a path that names a device or a dump must not fill the memory."""

_SHOWN = 60  # characters of a wrong value that are shown

Table = Mapping[str, object]
Location = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing to put right. key: its path in the file, empty for the whole file."""

    key: str
    wrong: str
    right: str = ""

    def __str__(self) -> str:
        said = f"{self.wrong}; {self.right}" if self.right else self.wrong
        line = f"{self.key}: {said}" if self.key else said
        # A quoted key may hold a line break, and it must not look like two mistakes.
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


class ConfigError(Exception):
    """A configuration that cannot be used: the caller prints it and ends with EXIT_CONFIG.

    Its text is one line for each mistake, each beginning with the file.
    """

    def __init__(self, file: Path, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(f"{file}: {mistake}" for mistake in mistakes))
        self.file = file
        self.mistakes = tuple(mistakes)


_M = TypeVar("_M", bound=BaseModel)


def load_toml(path: Path, model: type[_M]) -> _M:
    """The file as `model`. Raises ConfigError, which names every mistake."""
    found = validated(read_toml(path), model)
    if isinstance(found, BaseModel):
        return found
    raise ConfigError(path, found)


def read_toml(path: Path) -> dict[str, object]:
    """The tables of the file. Raises ConfigError where it cannot be read or is not TOML."""
    content = _read(path)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wrong = f"line {line}: byte {content[error.start]:#04x} is not UTF-8"
        raise ConfigError(path, [Mistake("", wrong, "save the file as UTF-8")]) from error
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError(path, [Mistake("", "is nested too deeply")]) from error
    # TOMLDecodeError, and what int() says of a number with thousands of digits.
    except ValueError as error:
        raise ConfigError(path, [Mistake("", _syntax(str(error)))]) from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except FileNotFoundError as error:
        raise ConfigError(path, [Mistake("", "there is no such file", "name it with --config FILE")]) from error
    except PermissionError as error:
        right = "run as its owner or make it readable for this user"
        raise ConfigError(path, [Mistake("", "this user may not read it", right)]) from error
    except IsADirectoryError as error:
        raise ConfigError(path, [Mistake("", "is a directory", "name a TOML file")]) from error
    except (OSError, ValueError) as error:
        raise ConfigError(path, [Mistake("", f"cannot be read: {error}")]) from error
    if len(content) > MAX_FILE:
        raise ConfigError(path, [Mistake("", f"has more than {MAX_FILE} bytes", "name a TOML file")])
    return content


def _syntax(said: str) -> str:
    place = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", said, re.DOTALL)
    if place is None:
        return f"is not TOML: {said}"
    where = f"line {place[2]}, column {place[3]}" if place[2] else "end of the file"
    return f"{where}: is not TOML: {place[1][:1].lower()}{place[1][1:]}"


def validated(table: Table, model: type[_M], at: Location = ()) -> _M | list[Mistake]:
    """The table as `model`, or every mistake in it; `at` is where the table stands in its file.

    Types are strict, as TOML has types of its own: `port = "1883"` is a mistake, not a number.
    """
    try:
        # By way of JSON, since strict validation of Python objects would refuse lists for tuples and text for paths.
        return model.model_validate_json(json.dumps(table, default=str), strict=True)
    except RecursionError:
        # A dotted key of a thousand parts: TOML's reader takes it, JSON's writer does not.
        return [Mistake(key_path(at), "is nested too deeply")]
    except ValidationError as error:
        found = error.errors(include_url=False)
        # A misspelt key shows as two mistakes, unknown and missing: the first names the cause.
        renamed = {(*e["loc"][:-1], near) for e in found if (near := _nearest(model, e))}
        return [
            _mistake(model, e["type"], e["loc"], e["input"], e["msg"], e.get("ctx", {}), at)
            for e in found
            if not (e["type"] == "missing" and e["loc"] in renamed)
        ]


def _nearest(model: type[BaseModel], error: Any) -> str | None:
    if error["type"] != "extra_forbidden":
        return None
    near = difflib.get_close_matches(str(error["loc"][-1]), _keys(model, error["loc"][:-1]), n=1)
    return near[0] if near else None


def _mistake(
    model: type[BaseModel], kind: str, loc: Location, value: object, said: str, context: Table, at: Location
) -> Mistake:
    key = key_path((*at, *loc))
    if kind == "missing":
        return Mistake(key, "is missing", _description(model, loc))
    if kind == "extra_forbidden":
        keys = _keys(model, loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), keys, n=1)
        return Mistake(key, "unknown key", f"did you mean {near[0]}?" if near else f"known here: {', '.join(keys)}")
    if kind in ("value_error", "assertion_error"):
        return Mistake(key, re.sub(r"^\w+ error, ", "", said))
    shown = "this value" if _secret(model, loc) else _shown(value)
    return Mistake(key, f"{shown} is wrong", _right(kind, said, context))


_WANTED = {
    "int_type": "write a whole number",
    "int_from_float": "write a whole number",
    "float_type": "write a number",
    "string_type": 'write text in quotes, such as "text"',
    "bool_type": "write true or false",
    "model_type": "write a table of keys",
    "model_attributes_type": "write a table of keys",
    "tuple_type": "write an array in square brackets, or [[driver]] for each",
    "list_type": "write an array in square brackets",
    "path_type": "write a path in quotes",
    "finite_number": "write a finite number",
    "union_tag_not_found": "add the key kind",
}
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def _right(kind: str, said: str, context: Table) -> str:
    if kind in _WANTED:
        return _WANTED[kind]
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"must be {words} {context.get(name)}"
    if kind in ("literal_error", "enum"):
        return f"must be {context.get('expected')}"
    if kind == "string_pattern_mismatch":
        return f"must match {context.get('pattern')}"
    return re.sub(r"^(Input|String|Value) ", "", said)


def key_path(loc: Location) -> str:
    """`driver[1].port`"""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return path.removeprefix(".")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _field(model: type[BaseModel], loc: Location) -> Any:
    """The annotation of the field at `loc`; None where there is none."""
    annotation: Any = model
    for part in loc:
        if isinstance(part, int):
            continue
        fields = {f.alias or name: f.annotation for m in _models(annotation) for name, f in m.model_fields.items()}
        if part not in fields:
            return None
        annotation = fields[part]
    return annotation


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation such as `tuple[Model, ...] | None` mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, UnionType, tuple, list):
        return [model for part in get_args(annotation) for model in _models(part)]
    return []


def _keys(model: type[BaseModel], loc: Location) -> list[str]:
    annotation = _field(model, loc)
    return [f.alias or name for m in _models(annotation) for name, f in m.model_fields.items()]


def _description(model: type[BaseModel], loc: Location) -> str:
    for owner in _models(_field(model, loc[:-1])):
        for name, field in owner.model_fields.items():
            if loc and (field.alias or name) == loc[-1]:
                return field.description or ""
    return ""


def _secret(model: type[BaseModel], loc: Location) -> bool:
    annotation = _field(model, loc)
    return annotation is SecretStr or SecretStr in get_args(annotation)
