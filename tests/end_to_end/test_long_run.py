"""Longer runs of faults by chance; a failure prints its seed and how to run it again."""

import random
import signal

import pytest

from tests.end_to_end.line import Line
from tests.end_to_end.test_killed_parts import PARTS

FAULTS = 25


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_faults_by_chance(line: Line, seed: int) -> None:
    print(f"run again: python -m pytest 'tests/end_to_end/test_long_run.py::test_faults_by_chance[{seed}]'")
    rng = random.Random(seed)
    line.start_ingest()
    line.start_gateway()
    line.wait_committed(200)
    for n in range(FAULTS):
        part, other = rng.sample(PARTS, 2)
        print(f"fault {n}: {part}, then {other}")
        if rng.random() < 0.3:
            process = line.gateway if rng.random() < 0.5 else line.ingest
            assert process is not None
            process.send_signal(signal.SIGSTOP)
            line.let_sensors_send(rng.randint(5, 60))
            process.send_signal(signal.SIGCONT)
        else:
            line.kill(part)
            line.let_sensors_send(rng.randint(0, 30))
            if rng.random() < 0.4:
                line.kill(other)
                line.start(other)
            line.start(part)
        if rng.random() < 0.5:
            line.wait_committed(rng.randint(1, 400))
    line.wait_committed(200)
    line.sensors.close()
    line.wait_settled()
    line.stop_gateway()
    line.assert_exactly_once()
    assert line.audit() == 0
    reasons = line.numbers("SELECT reason, count(*) FROM iot_service.data_gaps GROUP BY reason")
    assert set(reasons) <= {"unclean_stop"}
