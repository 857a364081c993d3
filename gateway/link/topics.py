"""The topics of the link (WIRE.md §1)."""

import re
from dataclasses import dataclass

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""What a site or a gateway may be called: nothing that MQTT, a path or SQL would read as more than a name."""

DEFAULT_ROOT = "heal7/v1"
_SERVER = "server"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics under one root."""

    root: str = DEFAULT_ROOT

    def batch(self, gateway: str) -> str:
        return f"{self.root}/{gateway}/batch"

    def status(self, gateway: str) -> str:
        return f"{self.root}/{gateway}/status"

    def receipt(self, gateway: str) -> str:
        return f"{self.root}/{gateway}/receipt"

    @property
    def server_status(self) -> str:
        return f"{self.root}/{_SERVER}/status"

    @property
    def all_batches(self) -> str:
        return f"{self.root}/+/+/batch"

    @property
    def all_statuses(self) -> str:
        return f"{self.root}/+/+/status"

    def gateway_of(self, topic: str) -> str | None:
        """`<site>/<gateway>` of a gateway's topic; None where the topic is not one."""
        if not topic.startswith(self.root + "/"):
            return None
        parts = topic[len(self.root) + 1 :].split("/")
        if len(parts) != 3 or parts[0] == _SERVER:
            return None
        name = f"{parts[0]}/{parts[1]}"
        return name if is_gateway_name(name) else None


def is_gateway_name(name: str) -> bool:
    """Whether this is `<site>/<gateway>` as WIRE.md §1 allows it."""
    parts = name.split("/")
    return len(parts) == 2 and parts[0] != _SERVER and all(NAME.fullmatch(p) for p in parts)
