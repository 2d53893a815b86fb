"""What all settings share: frozen models that document and check themselves."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of all settings: frozen, strict about names, silent about nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path_fields: ClassVar[tuple[str, ...]] = ()
    """Fields holding a path: relative to the recipe in a recipe, to the shell in a flag."""


def as_recipe(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain data that TOML and JSON can hold (unset fields left out)."""
    return settings.model_dump(mode="json", exclude_none=True)
