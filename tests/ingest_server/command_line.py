"""A command as it is run, in this process."""

import json
from typing import Any

import pytest

from heal7_iot.cli import main


class Said:
    """How a command ended, and what it wrote."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Said:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    written = capsys.readouterr()
    code = ended.value.code
    return Said(code if isinstance(code, int) else 0 if code is None else 1, written.out, written.err)
