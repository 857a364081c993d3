"""Who speaks on the link, and how it says goodbye (WIRE.md §2, §5)."""

from dataclasses import dataclass

from gateway.link.status import Status
from gateway.link.topics import Topics


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who speaks: `<site>/<name>`, this start's instance, and under which root of topics."""

    gateway: str
    instance: int
    topics: Topics

    def offline(self) -> bytes:
        """The last will, which a clean stop publishes, too."""
        return Status(v=1, state="offline", instance=self.instance).model_dump_json(exclude_unset=True).encode()
