"""What a configuration says of profiles, the gateway's as the server's."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from firmware_profiles.selection import ProfileSet


class ProfilesOptions(BaseModel):
    """directory: with this installation's own profiles, beside those that come with the package; absolute."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: Annotated[Path | None, Field(description='such as directory = "/etc/heal7-iot/profiles"')] = None

    @field_validator("directory")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        # systemd starts in /, a technician's `check` anywhere.
        if path is not None and not path.is_absolute():
            raise ValueError(f"{str(path)!r} is wrong; write an absolute path such as /etc/heal7-iot/profiles")
        return path

    def load(self) -> ProfileSet:
        """All profiles that count. Raises ProfileError."""
        return ProfileSet.with_own(self.directory)
