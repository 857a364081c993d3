"""The project's own modules and what each imports, read from their syntax."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("firmware_profiles", "device_drivers", "gateway", "ingest_server", "heal7_iot")


@dataclass(frozen=True)
class Module:
    """One file. name: dotted, a package's `__init__` under the package's own name."""

    path: Path

    @property
    def relative(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def name(self) -> str:
        return self.relative.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(), self.relative)

    @cache  # noqa: B019 -- as many as there are files
    def imports(self) -> tuple[tuple[int, str], ...]:
        """(line, dotted name) of every import, also of those within functions and `TYPE_CHECKING`."""
        return tuple(self._imports())

    def _imports(self) -> Iterator[tuple[int, str]]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.relative}:{node.lineno}: relative import"
                assert node.module is not None
                # `from gateway import daemon` may name a module or a thing in one: the longer name says more.
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def modules(*packages: str) -> list[Module]:
    """Every module of the given packages, or of all."""
    return [Module(path) for package in packages or PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
