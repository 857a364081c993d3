"""kill -9 of a database is one: nothing of it lives on, and it can be started again at once."""

from pathlib import Path

import psycopg

from tests.peers.postgres import running_postgres


def test_a_killed_server_leaves_nobody_behind_and_starts_again_at_once() -> None:
    """Its backends lead sessions of their own: one that lived on held the shared memory, and no start was possible."""
    with running_postgres({"fsync": "off"}) as server:
        for _ in range(5):
            clients = [psycopg.connect(server.dsn()) for _ in range(5)]
            backends = [client.info.backend_pid for client in clients]
            server.kill()
            states = [Path(f"/proc/{pid}/stat") for pid in backends]
            assert all(" Z " in state.read_text() for state in states if state.exists())
            server.start()
            for client in clients:
                client.close()
        with psycopg.connect(server.dsn()) as client:
            assert client.execute("SELECT 1").fetchone() == (1,)
