"""What a trial changes of a preset: settings of its recipe, and dials of its worlds."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from relpretrain.errors import ConfigError
from relpretrain.synthetic import generate


def parse(texts: Iterable[str]) -> dict[str, Any]:
    """Names and values of texts such as "model.optimizer.lr=2e-3".

    Raises:
        ValueError: If one has no name, no value, or none that YAML can read.
    """
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not (name and value):
            raise ValueError(f"{text!r} does not read NAME=VALUE, as label_noise=0.1.")
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{text!r} cannot be read as YAML: {error}") from error
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)  # to YAML 1.1, a number such as 2e-3 is a word
    return value


def with_dials(world: Mapping[str, Any], dials: Mapping[str, Any]) -> dict[str, Any]:
    """The dials of a world, some of them set otherwise.

    Raises:
        ValueError: If the generator of worlds has no dial of a name.
    """
    known = sorted(inspect.signature(generate).parameters.keys() - {"out", "seed", "overwrite"})
    for name in dials:
        if name not in known:
            raise ValueError(f"No dial of a world is called {name!r}; there are {', '.join(known)}.")
    return {**world, **{name: tuple(v) if isinstance(v, list) else v for name, v in dials.items()}}


def with_settings(recipe: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe in which some settings, named by dotted paths, have other values.

    Raises:
        ConfigError: If the recipe has no section of a path.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(recipe))
    for path, value in settings.items():
        *sections, name = path.split(".")
        section = _section(changed, sections)
        if section is None:
            raise ConfigError(f"the recipe has no {'.'.join(sections)}, so {path} cannot be set")
        section[name] = value
    return changed


def check_settings(recipe: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Check that no factor of a run has overruled a setting. What the run is without is ignored.

    Raises:
        ConfigError: If one has.
    """
    for path, value in settings.items():
        *sections, name = path.split(".")
        section = _section(recipe, sections)
        if section is not None and name in section and section[name] != value:
            raise ConfigError(f"{path} is {section[name]} by the run's own factors, and cannot be set to {value}")


def _section(recipe: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any] | None:
    found: Any = recipe
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, dict) else None
