"""What the documents say can be done: links lead somewhere, commands exist, examples load and state the defaults."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.link.config_file import load_toml
from heal7_iot.cli import COMMANDS, main
from ingest_server.config import DatabaseOptions, IngestConfig
from tests.contracts.sources import ROOT

DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("[a-z]*/*.md"), ROOT / "gateway/link/WIRE.md"]
)
_LINK = re.compile(r"\]\(([^)#]+)\)")
_COMMAND = re.compile(r"heal7-iot ((?:[a-z]+ ?)+)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in _LINK.findall(document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def mentioned() -> set[tuple[str, ...]]:
    """Every `heal7-iot WORD [WORD]` of documents, examples, units and help texts, as far as its words are commands."""
    files = [*DOCUMENTS, *(ROOT / "docs/examples").glob("*"), *(ROOT / "systemd").glob("*")]
    files += [*ROOT.glob("*/commands/*.py"), *ROOT.glob("*/commands.py"), ROOT / "ingest_server/liveness.py"]
    found = set()
    for file in files:
        for words in _COMMAND.findall(file.read_text()):
            command, *rest = words.split()
            if command in COMMANDS:
                found.add((command, *(rest[:1] if command not in ("audit", "demo") else ())))
    return found


@pytest.mark.parametrize("command", sorted(mentioned()), ids=" ".join)
def test_a_command_that_is_mentioned_exists(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert "Usage" in capsys.readouterr().out


def test_make_targets_that_are_mentioned_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        for target in re.findall(r"`make ([a-z-]+)", document.read_text()):
            assert target in targets, f"{document.name} says make {target}"


def test_the_example_of_the_server_states_its_defaults() -> None:
    path = ROOT / "docs/examples/ingest.toml"
    loaded = load_toml(path, IngestConfig)
    text = path.read_text()
    stated = tomllib.loads(text)
    _assert_defaults(IngestConfig(database=DatabaseOptions(dsn=loaded.database.dsn)), stated, "")
    # What is commented out are keys that exist, too.
    model: BaseModel = loaded
    for line in text.splitlines():
        if line.startswith("["):
            model = loaded
            for name in line.split("]")[0].strip("[").split("."):
                model = getattr(model, name)
        commented = re.match(r"# (\w+) = ", line)
        if commented:
            assert commented[1] in type(model).model_fields, line


def _assert_defaults(default: BaseModel, stated: dict[str, Any], table: str) -> None:
    for key, value in stated.items():
        if isinstance(value, dict):
            _assert_defaults(getattr(default, key), value, f"{table}{key}.")
        elif f"{table}{key}" != "database.dsn":
            assert _plain(getattr(default, key)) == value, f"{table}{key}"


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
