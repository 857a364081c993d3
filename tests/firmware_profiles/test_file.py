"""Files that are no profiles: each refused with one line, and never waited for."""

import os
import string
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from firmware_profiles.errors import ProfileError
from firmware_profiles.file import MAX_FILE, read_profile
from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import ProfileSet, read_folder
from tests.firmware_profiles.written import GOOD, MODBUS, load


def mistakes(path: Path) -> list[str]:
    found = read_profile(path, path.name)
    assert not isinstance(found, FirmwareProfile)
    return [str(mistake) for mistake in found]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name = ", "is not TOML: Invalid value (at end of document); correct the line"),
        (b"\x00", "is not TOML: Invalid statement (at line 1, column 1); correct the line"),
        (b'name = "a"\nname = "b"', "is not TOML: Cannot overwrite a value"),
        (b'# ok\nname = "\xff"', "line 2: byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"\xff\xfe", "line 1: byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"#" * (MAX_FILE + 1), f"has more than {MAX_FILE} bytes; name a profile"),
        (b"a=" + b"[" * 100_000, "is nested too deeply: write a profile"),
        (b"a = " + b"9" * 5000, "is not TOML: Exceeds the limit"),
        (b"a = 0x" + b"f" * 5000, "is nested too deeply, or has a number too long: write a profile"),
        (b".".join([b"a"] * 2000) + b" = 1", "is nested too deeply, or has a number too long: write a profile"),
    ],
)
def test_what_is_no_profile_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "thing.toml"
    path.write_bytes(content)
    (line,) = mistakes(path)
    assert line.startswith(f"thing.toml: {said}")


def test_an_empty_file_is_told_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "thing.toml"
    path.write_bytes(b"")
    assert [line.split(": ")[1:3][0] for line in mistakes(path)] == [
        "name",
        "models",
        "manufacturer",
        "driver",
        "sources",
        "channels",
    ]


def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.toml")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "gone.toml").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    found: list[Any] = []
    # In a thread: what waited for the FIFO would wait for ever.
    reader = threading.Thread(target=lambda: found.append(read_folder(tmp_path)), daemon=True)
    reader.start()
    reader.join(30)
    assert found, "the FIFO is waited for"
    loaded, wrong = found[0]
    assert loaded == []
    assert [str(one) for one in wrong] == [
        "fifo.toml: is no regular file; name a TOML file",
        "folder.toml: is a directory; name a TOML file",
        "gone.toml: there is no such file; correct its name or where its link leads",
        "loop.toml: cannot be read (Too many levels of symbolic links); name a TOML file",
        "zero.toml: is no regular file; name a TOML file",
    ]


def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "thing.toml").write_text(GOOD)
    (tmp_path / "thing.toml").chmod(0)
    me = os.geteuid()
    if me == 0:
        # Root may read everything, nobody may not.
        os.seteuid(65534)
    try:
        assert mistakes(tmp_path / "thing.toml") == ["thing.toml: this user may not read it; make it readable"]
    finally:
        os.seteuid(me)


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("not a profile")
    (tmp_path / "within").mkdir()
    (tmp_path / "within/above").symlink_to(tmp_path)
    assert len(list(load(tmp_path, GOOD))) == 1


def test_all_files_of_a_folder_are_read_though_one_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("x")
    (tmp_path / "b.toml").write_text(MODBUS)
    (tmp_path / "c.toml").write_text("y")
    loaded, wrong = read_folder(tmp_path)
    assert [name for name, _ in loaded] == ["b.toml"]
    assert [one.file for one in wrong] == ["a.toml", "c.toml"]
    with pytest.raises(ProfileError, match=r"^a\.toml: is not TOML"):
        ProfileSet.load(tmp_path)


def test_a_line_break_in_a_key_makes_no_second_line(tmp_path: Path) -> None:
    path = tmp_path / "thing.toml"
    path.write_text(GOOD + '[channels."a\\nb"]\n')
    assert all("\n" not in line for line in mistakes(path))


# -- whatever a file says


_KEYS = st.sampled_from(
    [
        *("name", "models", "manufacturer", "driver", "firmware", "sources", "channels", "sampling", "modbus"),
        *("quantity", "unit", "minimum", "maximum", "register", "address", "type", "begin", "title", "temperature"),
    ]
) | st.text(string.printable, max_size=4)
_VALUES = st.recursive(
    st.sampled_from(
        ['"Cel"', '">=1"', '"a/1"', "1", "0.5", "nan", "-inf", "true", '""', "2026-01-01", "07:32:00", "0xff"]
    )
    | st.integers(-(10**30), 10**30).map(str)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5).map(lambda text: quoted(text)),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda values: f"[{', '.join(values)}]")
        | st.dictionaries(_KEYS, inner, max_size=3).map(
            lambda table: "{" + ", ".join(f"{quoted(key)} = {value}" for key, value in table.items()) + "}"
        )
    ),
    max_leaves=6,
)


def quoted(text: str) -> str:
    escaped = "".join(
        c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in text if not 0xD800 <= ord(c) < 0xE000
    )
    return f'"{escaped}"'


@given(st.dictionaries(_KEYS, _VALUES, max_size=6), st.booleans())
@example({"channels": '{"a" = 5}'}, True)
@example({"channels": '{"[key]" = {}}'}, False)
@example({"sources": '[{"title" = 1}]'}, False)
@example({"firmware": '{"min" = "1"}', "models": "5"}, False)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_whatever_a_file_says_is_a_profile_or_lines(tmp_path: Path, table: dict[str, str], nested: bool) -> None:
    lines = [f"{quoted(key)} = {value}" for key, value in table.items()]
    text = MODBUS + "\n" + "\n".join(lines) if nested else "\n".join(lines)
    assert_told(tmp_path, text.encode())


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_any_bytes_are_a_profile_or_lines(tmp_path: Path, content: bytes) -> None:
    assert_told(tmp_path, content)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_a_good_profile_with_any_line_changed_is_a_profile_or_lines(tmp_path: Path, data: Any) -> None:
    lines = data.draw(st.sampled_from([GOOD, MODBUS])).splitlines()
    n = data.draw(st.integers(0, len(lines) - 1))
    key = lines[n].partition(" = ")[0]
    lines[n] = data.draw(
        st.sampled_from(["", f"{key} = ", f"x{key} = 1", "[channels]"]) | _VALUES.map(f"{key} = {{}}".format)
    )
    assert_told(tmp_path, "\n".join(lines).encode())


def assert_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "thing.toml"
    path.write_bytes(content)
    found = read_profile(path, "thing.toml")
    if isinstance(found, FirmwareProfile):
        return
    assert found
    for mistake in found:
        assert str(mistake).startswith("thing.toml: ")
        assert str(mistake).isprintable()
        assert mistake.remedy
    keys = [mistake.key for mistake in found]
    assert len(set(keys)) == len(keys)
