"""What several processes take while something runs: memory, file descriptors, threads, and whatever a gauge tells.

Sampled in a thread, so that it goes on while the caller waits for processes to start and to die.
"""

import statistics
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import psutil

FLAT = 1.15
"""Memory is called flat where the last third of a run took at most so many times what the middle third took."""


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """One process at one moment; rss_mb: resident memory in MB (10^6 bytes).

    cpu_percent: of one core, since the sample before.
    """

    rss_mb: float
    fds: int
    threads: int
    cpu_percent: float = 0.0


@dataclass(frozen=True, slots=True)
class Gauge:
    """A number of one's own. panel: what is measured, with its unit; line: of what; read: None where unknown now."""

    panel: str
    line: str
    read: Callable[[], float | None]


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment, seconds since the sampler began. processes: those that ran; gauges: by panel and line."""

    at_s: float
    processes: Mapping[str, ProcessSample]
    gauges: Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened, such as a process that was killed."""

    at_s: float
    what: str


@dataclass(frozen=True, slots=True)
class Flatness:
    """Medians of the middle and of the last third of a run: the first third is for warming up."""

    middle: float
    last: float

    @property
    def ratio(self) -> float:
        """How much more the last third took; 1.0 where neither took anything."""
        if self.middle == 0:
            return 1.0 if self.last == 0 else float("inf")
        return self.last / self.middle

    def flat(self, most: float = FLAT) -> bool:
        return self.ratio <= most


def flatness(values: Sequence[float]) -> Flatness:
    """Of values at even intervals, in order of time. Raises ValueError where there are fewer than three."""
    if len(values) < 3:
        raise ValueError(f"{len(values)} samples: at least three are needed to tell whether they are flat")
    third = len(values) // 3
    return Flatness(statistics.median(values[third : 2 * third]), statistics.median(values[2 * third :]))


def rss_flatness(samples: Iterable[Sample], process: str) -> Flatness:
    """Of a process' memory (MB), as far as it ran. Raises ValueError where it was seen fewer than three times."""
    return flatness([one.processes[process].rss_mb for one in samples if process in one.processes])


class Sampler:
    """Takes a sample each `interval_s` between entering and leaving; leaving raises what a gauge raised.

    processes: by name, what gives its pid now, or None while it does not run: a process that is started again has
    another pid and keeps its line in the plot.
    """

    def __init__(
        self,
        processes: Mapping[str, Callable[[], int | None]],
        gauges: Iterable[Gauge] = (),
        interval_s: float = 0.5,
    ) -> None:
        self.samples: list[Sample] = []
        self.marks: list[Mark] = []
        self._processes = dict(processes)
        self._gauges = tuple(gauges)
        self._interval_s = interval_s
        self._known: dict[int, psutil.Process] = {}
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._began_s = 0.0
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Self:
        self._began_s = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None and exc[0] is None:
            raise self._error

    @property
    def running(self) -> bool:
        """Whether it still samples: a gauge that raised has ended it."""
        return self._thread.is_alive()

    def at_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began_s

    def mark(self, what: str) -> None:
        """Something happened now: a line across the plot."""
        self.marks.append(Mark(self.at_s(), what))

    def _run(self) -> None:
        due_s = self._began_s
        try:
            while not self._stop.wait(max(0.0, due_s - time.monotonic())):
                self.samples.append(self._sample())
                # Not `+ interval` alone: after a pause it would make up for what it missed, all at once.
                due_s = max(due_s + self._interval_s, time.monotonic())
        except Exception as error:  # noqa: BLE001  # raised where the sampler is left: nobody watches this thread
            self._error = error

    def _sample(self) -> Sample:
        at_s = self.at_s()
        processes = {}
        for name, pid_of in self._processes.items():
            pid = pid_of()
            found = None if pid is None else self._look(pid)
            if found is not None:
                processes[name] = found
        gauges = {}
        for gauge in self._gauges:
            value = gauge.read()
            if value is not None:
                gauges[gauge.panel, gauge.line] = value
        return Sample(at_s, processes, gauges)

    def _look(self, pid: int) -> ProcessSample | None:
        """None where it is gone, or only its exit code is left."""
        try:
            process = self._known.get(pid)
            if process is None or not process.is_running():
                process = self._known[pid] = psutil.Process(pid)
            with process.oneshot():
                found = ProcessSample(
                    process.memory_info().rss / 1e6,
                    process.num_fds(),
                    process.num_threads(),
                    process.cpu_percent(),
                )
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            self._known.pop(pid, None)
            return None
        return found if found.rss_mb else None
