"""Bytes as people read them, beside the program that made the form."""

import random
import shutil
import subprocess

import pytest

from ingest_server.hexdump import hexdump
from tests.peers.needs import wants


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", ["00000000"]),
        (b"H7IB", ["00000000  48 37 49 42                                       |H7IB|", "00000004"]),
        (
            bytes(48) + b"\xff~",
            [
                "00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|",
                "*",
                "00000030  ff 7e                                             |.~|",
                "00000032",
            ],
        ),
    ],
    ids=["nothing", "less than a line", "lines that repeat"],
)
def test_lines(content: bytes, lines: list[str]) -> None:
    assert list(hexdump(content)) == lines


def test_it_is_what_hexdump_shows() -> None:
    program = shutil.which("hexdump")
    if program is None:
        pytest.skip(wants("hexdump", "apt install bsdextrautils"))
    draw = random.Random(5)
    for size in (1, 7, 8, 9, 16, 17, 1000):
        content = draw.randbytes(size) + bytes(draw.randrange(80)) + draw.randbytes(3)
        shown = subprocess.run([program, "-C"], input=content, capture_output=True, check=True).stdout.decode()
        assert list(hexdump(content)) == shown.splitlines()
