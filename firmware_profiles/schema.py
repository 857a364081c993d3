"""The JSON Schema of a profile's file, for editors: `profile.schema.json`, which a test keeps equal to this.

It says what keys there are and of which type. What they say together (units, ranges that overlap) only a load judges.
"""

import json
from pathlib import Path
from typing import Any

from firmware_profiles.profile import FirmwareProfile

PUBLISHED = Path(__file__).parent / "profile.schema.json"


def schema_text() -> str:
    """What `profile.schema.json` must hold."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **FirmwareProfile.model_json_schema()}
    return json.dumps(_of_toml(schema), indent=2, ensure_ascii=False) + "\n"


def _of_toml(part: Any) -> Any:
    """Without what TOML cannot say (null), and without titles that repeat the key."""
    if isinstance(part, list):
        return [_of_toml(item) for item in part if item != {"type": "null"}]
    if not isinstance(part, dict):
        return part
    kept = {
        key: {name: _of_toml(item) for name, item in value.items()} if key == "properties" else _of_toml(value)
        for key, value in part.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }
    if "patternProperties" in kept:
        kept.setdefault("additionalProperties", False)
    choices = kept.get("anyOf")
    if isinstance(choices, list) and len(choices) == 1:
        del kept["anyOf"]
        kept = {**choices[0], **kept}
    return kept
