"""`heal7-iot simulate` as a process, and what it says."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heal7_iot.simulate.plan import Plan

PATIENCE_S = 120.0
"""For waits that end soon unless something is broken; the machine may be busy."""

QUICK = """[uplink]
resend_first_s = 1.0
resend_longest_s = 3.0
heartbeat_s = 1.0
audit_wait_s = 1.0
spread_s = 0.2
reconnect_first_s = 0.2
reconnect_longest_s = 1.0
[batch]
linger_s = 0.2
"""


class Simulation:
    """One run, with `--json` unless only its end is looked at."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.progress: dict[str, Any] = {}

    def until(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Reads what it says until that fulfils the condition."""
        assert self.process.stdout is not None
        deadline_s = time.monotonic() + PATIENCE_S
        for line in self.process.stdout:
            self.progress = json.loads(line)
            if condition(self.progress):
                return
            assert time.monotonic() < deadline_s, self.progress
        raise AssertionError(f"it ended: {self.progress} {self._errors()}")

    def signal(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, dict[str, Any]]:
        """Exit code and outcome."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        assert "Traceback" not in err, err
        lines = out.splitlines()
        return self.process.returncode, json.loads(lines[-1]) if lines else self.progress

    def close_after_a_line(self) -> tuple[int, str]:
        """Exit code, and what it said of errors, once nobody reads any more."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        assert self.process.stdout.readline()
        self.process.stdout.close()
        self.process.wait(PATIENCE_S)
        with self.process.stderr as errors:
            return self.process.returncode, errors.read()

    def _errors(self) -> str:
        return self.process.communicate(timeout=PATIENCE_S)[1]


def arguments(plan: Plan) -> list[str]:
    """The command line of a plan."""
    given: list[str] = []
    for name, value in asdict(plan).items():
        if name not in ("late", "outage") and value is not None:
            given += [f"--{name.removesuffix('_s')}", str(value)]
    if plan.late is not None:
        given += ["--late", f"{plan.late.share:g}:{plan.late.delay_s:g}"]
    if plan.outage is not None:
        given += ["--outage", f"{plan.outage.every_s:g}/{plan.outage.for_s:g}"]
        given += ["--together"] if plan.outage.together else []
    return given


@contextmanager
def simulation(plan: Plan, port: int, directory: Path, *, as_json: bool = True) -> Iterator[Simulation]:
    """Runs the plan with quick gateways; killed where the test leaves it running."""
    config = directory / "simulate.toml"
    config.write_text(f"[mqtt]\nport = {port}\nkeepalive_s = 2\nconnect_timeout_s = 5.0\n{QUICK}")
    command = [sys.executable, "-m", "heal7_iot", "simulate", "--config", str(config), *arguments(plan)]
    command += ["--json"] if as_json else []
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield Simulation(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
