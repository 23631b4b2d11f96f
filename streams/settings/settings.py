"""Settings: every name, number and limit, read once: from the command line, the environment, a file, or by default."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, SecretStr, ValidationError

from streams.errors import InvalidSettings
from streams.settings.api import ApiSettings, ClientSettings
from streams.settings.kafka import KafkaSettings
from streams.settings.sources import Sources, variable
from streams.settings.topics import TopicSettings
from streams.settings.watching import WatchingSettings
from streams.settings.work import WorkSettings


class Settings(ClientSettings, ApiSettings, WatchingSettings, WorkSettings, TopicSettings, KafkaSettings):
    """All settings; each is `XFERQ_` and its name in upper case in the environment, its name alone in a file.

    Code that needs only a part of them takes that part, by its class. Units stand in the names: `_ms`, `_s`, `_bytes`,
    `_days`. What is secret is a `SecretStr`: it never shows.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, validate_default=True)

    def as_variables(self) -> dict[str, str]:
        """What a child process needs besides this process's environment to have the same settings.

        Nothing secret: the child reads that where its parent did. What is in a file must not be in an environment.
        """
        return {
            variable(name): value if isinstance(value, str) else json.dumps(value)
            for name, value in self.shown().items()
            if value is not None and not isinstance(getattr(self, name), SecretStr)
        }

    def shown(self) -> dict[str, Any]:
        """All values as JSON can hold them; of what is secret only that it is there."""
        return self.model_dump(mode="json")


def load_settings(**overrides: object) -> Settings:
    """Settings: `overrides` (from the command line) first, then the environment, then the file, then defaults.

    Raises:
        InvalidSettings: a value is not valid, or something is set that there is not; the message names it and
            where it stands.
    """
    return load_with_origins(**overrides)[0]


def load_with_origins(**overrides: object) -> tuple[Settings, Mapping[str, str]]:
    """Settings, and by setting where its value comes from. Raises as `load_settings`."""
    given = {name: value for name, value in overrides.items() if value is not None}
    sources = Sources.read(Settings.model_fields, given)
    try:
        settings = Settings.model_validate(sources.values)
    except ValidationError as error:
        problems = [
            f"{sources.place_of(str(item['loc'][0]))}: {_said(item['msg'])}" if item["loc"] else _said(item["msg"])
            for item in error.errors(include_input=False, include_url=False)
        ]
        raise InvalidSettings("; ".join(dict.fromkeys(problems))) from None
    return settings, sources.origins


def _said(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Input ")


def settings_table() -> str:
    """All settings as a Markdown table, as in docs/settings.md: `python -m streams.settings.settings` prints it."""
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default if field.default_factory is None else None
        listed = ",".join(map(str, default)) if isinstance(default, tuple) else default
        shown = "" if listed in (None, "") else f"`{listed}`"
        rows.append(f"| `{variable(name)}` | {shown} | {field.description} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(settings_table())
