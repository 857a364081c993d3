"""An MQTT broker of one's own on loopback: the system's mosquitto if there is one, else the nats-server of a wheel.

mosquitto speaks MQTT 5 and 3.1.1, nats-server only 3.1.1 (https://docs.nats.io/running-a-nats-service/configuration/mqtt).
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import Literal

import psutil

from heal7_iot.embedded.errors import EmbeddedServerError

BrokerKind = Literal["mosquitto", "nats"]

_START_S = 30.0
_STOP_S = 10.0
_ASK_AGAIN_S = 0.5

# Between asking for a free port and the broker's taking it, somebody else may take it.
_PORTS_TRIED = 5

_MOSQUITTO = """listener {port} 127.0.0.1
allow_anonymous true
persistence false
log_dest stderr
"""

# NATS keeps MQTT's sessions in JetStream, and gives a QoS 1 subscriber at most max_ack_pending messages ahead of its
# acknowledgements; the default of 1024 is spelled out, since under MQTT 3.1.1 it is the server's only flow control.
_NATS = """server_name: heal7
listen: "127.0.0.1:{other_port}"
jetstream {{ store_dir: "{store}" }}
mqtt {{ listen: "127.0.0.1:{port}", max_ack_pending: 1024 }}
"""


def installed(kind: BrokerKind) -> Path | None:
    """The program, where this machine has it."""
    # Debian puts mosquitto where only root looks; pip puts nats-server beside a Python that need not be on PATH.
    beyond = "/usr/sbin" if kind == "mosquitto" else sysconfig.get_path("scripts")
    name = "mosquitto" if kind == "mosquitto" else "nats-server"
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), beyond]))
    return None if found is None else Path(found)


class EmbeddedBroker:
    """One broker with its files in `directory`, which keeps nothing that the line depends on.

    kind: None takes mosquitto where it is installed. Raises EmbeddedServerError where there is none.
    """

    def __init__(self, directory: Path, kind: BrokerKind | None = None) -> None:
        candidates: tuple[BrokerKind, ...] = ("mosquitto", "nats") if kind is None else (kind,)
        found = next(((k, path) for k in candidates if (path := installed(k)) is not None), None)
        if found is None:
            names = " nor ".join(candidates)
            raise EmbeddedServerError(f"no broker: neither {names}" if kind is None else f"{names} is not installed")
        self.directory = directory
        self.kind, self._program = found
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process id; None while it does not run."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    @property
    def log(self) -> Path:
        """What it says of itself."""
        return self.directory / "log"

    def start(self) -> None:
        """Starts the broker and waits until it listens; `port` says where. Raises EmbeddedServerError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        # A restarted broker is where its clients look for it.
        ports = [self.port] if self.port else [_free_port() for _ in range(_PORTS_TRIED)]
        for port in ports:
            self._launch(port)
            if self._listens(port):
                self.port = port
                return
        raise EmbeddedServerError(f"{self.kind} did not start in {self.directory}:\n{self._last_words()}")

    def stop(self) -> None:
        """Asks it to end; it is killed where it does not."""
        if self._process is None:
            return
        deadline = time.monotonic() + _STOP_S
        while self._process.poll() is None and time.monotonic() < deadline:
            # More than once: mosquitto forgets a signal that comes just before its main loop begins.
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_ASK_AGAIN_S)
        if self._process.poll() is None:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """kill -9, as when a machine's memory is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(_STOP_S)
        self._process = None

    def _launch(self, port: int) -> None:
        config = self.directory / "config"
        template = _MOSQUITTO if self.kind == "mosquitto" else _NATS
        config.write_text(template.format(port=port, other_port=_free_port(), store=self.directory / "jetstream"))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._program), "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _listens(self, port: int) -> bool:
        """Whether *this* process took the port: another's would answer a connection just as well."""
        assert self._process is not None
        watched = psutil.Process(self._process.pid)
        deadline = time.monotonic() + _START_S
        while self._process.poll() is None:
            try:
                taken = {c.laddr.port for c in watched.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
            except psutil.NoSuchProcess:
                continue
            if port in taken:
                return True
            if time.monotonic() > deadline:
                self.kill()
                raise EmbeddedServerError(f"{self.kind} does not listen after {_START_S:g} s:\n{self._last_words()}")
            time.sleep(0.02)
        return False

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
