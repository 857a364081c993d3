"""However a file is wrong, it is told in lines that each begin with the file, and never by a traceback."""

from pathlib import Path

import pytest

from gateway.config import load_config
from gateway.link.config_file import ConfigError


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(".".join(["a"] * 5000) + " = 1", id="dotted-deep"),
        pytest.param('"a\\nb" = 1', id="line-break-in-a-key"),
        pytest.param('[gateway]\n"\\u2028" = 1', id="line-separator-in-a-key"),
        pytest.param('[mqtt]\nhost = "a\\nb"', id="line-break-in-a-value"),
    ],
)
def test_each_mistake_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    for line in str(caught.value).splitlines():
        assert line.startswith(f"{file}: ")
