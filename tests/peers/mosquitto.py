"""A real mosquitto on a free port of loopback that remembers nothing, for whichever test wants a broker.

Use the fixture by importing it in a `conftest.py`: `from tests.peers.mosquitto import mosquitto`.
"""

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.peers.needs import needs

_START_TIMEOUT_S = 10.0


class Broker:
    """One mosquitto. `kill` is a power cut; `restart` starts it again on the same port, empty."""

    def __init__(self, program: str, directory: Path, port: int, settings: Sequence[str]) -> None:
        self.port = port
        self._program = program
        self._directory = directory
        self._settings = tuple(settings)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process; it must be running."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it takes connections. Raises RuntimeError with its log otherwise."""
        assert self._process is None, "it runs already"
        configuration = self._directory / f"mosquitto-{self.port}.conf"
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "persistence false", *self._settings]
        configuration.write_text("\n".join(lines) + "\n")
        log = self._directory / f"mosquitto-{self.port}.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen([self._program, "-c", str(configuration)], stdout=output, stderr=output)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
            except OSError:
                time.sleep(0.01)  # outside of any event loop, and nothing tells when it listens
            else:
                return
        self.kill()
        raise RuntimeError(f"mosquitto did not start: {log.read_text()}")

    def kill(self) -> None:
        """Ends it at once, as a power cut would. Does nothing if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def restart(self, settings: Sequence[str] | None = None) -> None:
        """A new one on the same port that knows nothing of the last; with other settings, if given."""
        self.kill()
        if settings is not None:
            self._settings = tuple(settings)
        self.start()

    def close(self) -> None:
        """At the end of a test."""
        self.kill()


def free_port() -> int:
    """A port of loopback that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_mosquitto(directory: Path, port: int | None = None, settings: Sequence[str] = ()) -> Broker:
    """A running broker; skips the test where mosquitto is not installed. settings: further lines of its file."""
    program = needs("mosquitto")
    attempts = 1 if port is not None else 3
    for attempt in range(attempts):
        broker = Broker(program, directory, free_port() if port is None else port, settings)
        try:
            broker.start()
        except RuntimeError:
            # Another process may have taken the port in between.
            if attempt == attempts - 1:
                raise
        else:
            return broker
    raise AssertionError("unreachable")


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Broker]:
    """A broker of this test's own."""
    broker = start_mosquitto(tmp_path)
    yield broker
    broker.close()
