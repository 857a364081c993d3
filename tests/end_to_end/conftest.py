"""A line of each test's own."""

import shutil
from collections.abc import Iterator

import pytest

from tests.end_to_end.line import Line, short_directory


@pytest.fixture
def line() -> Iterator[Line]:
    directory = short_directory("line")
    try:
        made = Line(directory)
        yield made
        made.close()
    finally:
        shutil.rmtree(directory)
