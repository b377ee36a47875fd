"""A file or a text to Settings: YAML, references, shapes, cross checks. Tells every fault at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.settings.crosscheck import Draft, crosscheck
from gateway.settings.document import read_document
from gateway.settings.expected import name_kind
from gateway.settings.faults import Fault, SettingsError
from gateway.settings.interpolate import Interpolation
from gateway.settings.root import Settings
from gateway.settings.shape import UNSOUND, Shape

_START = "start with `models:` and `routes:`; `postern schema` prints every key"


def load_settings(path: Path, environ: Mapping[str, str]) -> Settings:
    """Read a configuration file; raise SettingsError with every fault.

    Relative paths in `${file:PATH}` start at the file's own folder, so that it means the same from anywhere.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        fault = Fault(str(path), f"cannot be read: {error.strerror or 'no reason given'}", "name a file that exists")
        raise SettingsError([fault]) from error
    except ValueError:  # its error would quote the file's bytes
        raise SettingsError([Fault(str(path), "is not UTF-8 text", "save it as UTF-8")]) from None
    return parse_settings(text, environ, path.parent)


def parse_settings(text: str, environ: Mapping[str, str], folder: Path = Path()) -> Settings:
    """Turn YAML into Settings; raise SettingsError with every fault. `folder` is where relative paths start."""
    document = read_document(text)
    if document is None:
        raise SettingsError([Fault("configuration", "is empty", _START)])
    if not isinstance(document, dict):
        raise SettingsError([Fault("configuration", f"{name_kind(document)} does not fit", _START)])
    shape = Shape(Interpolation(environ, folder))
    sections = shape.read_fields(document, Settings, "")
    faults = [*shape.faults, *crosscheck(_draft(sections))]
    if faults:
        raise SettingsError(faults)
    return Settings(**sections)


def _draft(sections: Mapping[str, Any]) -> Draft:
    """Keep what is sound, so that one section's fault does not hide another's."""
    models, routes = sections.get("models", UNSOUND), sections.get("routes", UNSOUND)
    rest = {name: _sound(sections[name]) for name in ("server", "redis", "keys", "tracing") if name in sections}
    return Draft(
        models=None if models is UNSOUND else {name: _sound(model) for name, model in models.items()},
        routes=None if routes is UNSOUND else {name: _sound(route) for name, route in routes.items()},
        has_redis=sections.get("redis") is not None,
        **rest,
    )


def _sound(value: Any) -> Any:
    return None if value is UNSOUND else value
