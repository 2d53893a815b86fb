"""Recipes and paths: TOML in, settings out; a path knows what it is relative to and which variables it names."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bcdx.config import Dataset, Fit, Settings
from bcdx.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

S = TypeVar("S", bound=Settings)

KEYWORDS = frozenset({"phantom", "random", "imagenet"})
"""Values of path settings that name something built in; a folder of that name is written ./phantom."""

_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)\}")


def expand_path(text: str) -> Path:
    """Return the path that `text` means, with environment variables and `~` filled in.

    Raises:
        SettingsError: A variable that `text` names is not set, or empty, which would mean the working directory.
    """

    def look_up(match: re.Match[str]) -> str:
        name = match.group(1) or match.group(2)
        if not (value := os.environ.get(name)):
            raise SettingsError(f"{text!r} needs the environment variable {name}, which is not set or empty")
        return value

    return Path(_VARIABLE.sub(look_up, text)).expanduser()


def portable_path(text: str, folder: Path) -> str:
    """Return `text` as it may be written into a file of `folder`: variables kept, all else relative to it."""
    if text in KEYWORDS or "$" in text:
        return text
    return Path(os.path.relpath(Path(text).expanduser(), folder)).as_posix()


def rebase_paths(settings: S, folder: Path) -> S:
    """Return the settings with every path made fit to be written into a file of `folder`."""
    return _map_paths(settings, lambda text: portable_path(text, folder))


def load_recipe(path: str | Path, kind: type[S]) -> S:
    """Read a TOML recipe; its paths become relative to the working directory, `out` stands beside it.

    Raises:
        SettingsError: One line naming file, key, value and what was expected.
    """
    recipe = Path(path)
    values = _read_toml(recipe)
    try:
        settings = kind.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"{recipe}: {explain(error)}") from error
    settings = _map_paths(settings, lambda text: _from_recipe(text, recipe.parent))
    if "out" in kind.model_fields and settings.model_dump().get("out") is None:
        settings = settings.model_copy(update={"out": str(recipe.with_suffix(""))})
    return settings


def load_dataset(fit: Fit) -> Dataset:
    """Return the dataset settings that a `fit` or `tune` names, with `out` filled in."""
    if fit.dataset == "phantom":
        dataset = Dataset(out="tfrecords/phantom")
    else:
        dataset = load_recipe(expand_path(fit.dataset), Dataset)
    return dataset if fit.records is None else dataset.model_copy(update={"out": fit.records})


def explain(error: ValidationError) -> str:
    """Return all faults of a validation in one line: key, what was expected, what was received."""
    faults = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        message = str(fault["msg"]).removeprefix("Value error, ")
        shown = "" if "received" in message or isinstance(fault["input"], (dict, BaseModel)) else fault["input"]
        received = f", received {shown!r}" if shown != "" else ""
        faults.append(f"{key}: {message}{received}" if key else message + received)
    return "; ".join(faults)


def _read_toml(recipe: Path) -> dict[str, Any]:
    try:
        with recipe.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        raise SettingsError(f"{recipe}: no such recipe") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{recipe}: cannot be read as a recipe ({type(error).__name__})") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{recipe}: not valid TOML: {error}") from error


def _from_recipe(text: str, folder: Path) -> str:
    if text in KEYWORDS or text.startswith(("$", "~")) or Path(text).is_absolute():
        return text
    return os.path.normpath(folder / text)


def _map_paths(settings: S, change: Any) -> S:
    update: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Settings):
            update[name] = _map_paths(value, change)
        elif name in type(settings).path_fields and value is not None:
            update[name] = change(value)
    return settings.model_copy(update=update)
