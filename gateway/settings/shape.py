"""Plain values to frozen structs, with every fault on the way. Knows nothing of how one section bears on another."""

import math
import types
from enum import Enum
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec

from gateway.core.secret import Secret
from gateway.settings import unavailable
from gateway.settings.expected import describe, describe_field, name_kind
from gateway.settings.faults import Fault, suggest, under
from gateway.settings.interpolate import Interpolation, UnresolvedError


class Unsound(Enum):
    """Stands where a value could not be made; its faults have been told."""

    UNSOUND = "unsound"


UNSOUND: Final = Unsound.UNSOUND


def decode_secret(kind: type, raw: Any) -> Secret:
    """Convert a text to a Secret: msgspec's hook for the one type it does not know."""
    if kind is Secret and isinstance(raw, str):
        return Secret(raw)
    raise TypeError


class Shape:
    """Walk values along their types, collecting every fault in `faults`."""

    def __init__(self, interpolation: Interpolation) -> None:
        self.faults: list[Fault] = []
        self._interpolation = interpolation
        self._fields: dict[type[msgspec.Struct], dict[str, msgspec.structs.FieldInfo]] = {}

    def read_fields(self, raw: dict[Any, Any], struct: type[msgspec.Struct], path: str) -> dict[str, Any]:
        """Return what `raw` sets of a struct's fields, UNSOUND where one is faulty."""
        fields = self._fields.get(struct)
        if fields is None:  # told by msgspec in 20 µs: of 100,000 client keys too long
            fields = self._fields[struct] = {field.name: field for field in msgspec.structs.fields(struct)}
        for key in raw:
            if key not in fields:
                self._tell_unknown(key, struct, path)
        for name, field in fields.items():
            if field.required and name not in raw:
                self._tell(under(path, name), "is missing", f"add it: {describe_field(field)}")
        return {name: self._read_field(raw[name], struct, field, path) for name, field in fields.items() if name in raw}

    def _read_field(self, raw: Any, struct: type[msgspec.Struct], field: msgspec.structs.FieldInfo, path: str) -> Any:
        if raw is not None and field.name in unavailable.FIELDS.get(struct, ()):
            return self._tell(under(path, field.name), unavailable.PROBLEM, "leave it null")
        if raw is None and field.required:
            return self._tell(under(path, field.name), "is empty", f"fill it in: {describe_field(field)}")
        return self._read(raw, field.type, under(path, field.name))

    def _read(self, raw: Any, kind: Any, path: str) -> Any:
        """Return the value of type `kind` at `path`, or UNSOUND."""
        bare = _strip_annotation(kind)
        if get_origin(bare) in (Union, types.UnionType):
            return self._read_union(raw, kind, get_args(bare), path)
        origin = get_origin(bare)
        if origin is dict:
            return self._read_mapping(raw, kind, get_args(bare)[1], path)
        if origin is tuple:
            return self._read_list(raw, kind, get_args(bare)[0], path)
        if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
            return self._read_struct(raw, bare, path)
        return self._read_leaf(raw, kind, path)

    def _read_union(self, raw: Any, kind: Any, arms: tuple[Any, ...], path: str) -> Any:
        """Read one of the unions there are: `X | None`, and `X | tuple[X, ...]`."""
        if type(None) in arms:
            if raw is None:
                return None
            return self._read(raw, next(arm for arm in arms if arm is not type(None)), path)
        one = next(arm for arm in arms if get_origin(arm) is not tuple)
        return self._read_list(raw, kind, one, path) if isinstance(raw, list) else self._read(raw, one, path)

    def _read_struct(self, raw: Any, struct: type[msgspec.Struct], path: str) -> Any:
        if not isinstance(raw, dict):
            return self._tell_misfit(raw, struct, path)
        told = len(self.faults)
        values = self.read_fields(raw, struct, path)
        return struct(**values) if len(self.faults) == told else UNSOUND

    def _read_mapping(self, raw: Any, kind: Any, item: Any, path: str) -> Any:
        """Return every entry that has a name, the faulty ones as UNSOUND: others may rightly refer to them."""
        if not isinstance(raw, dict):
            return self._tell_misfit(raw, kind, path)
        entries = {}
        for key, value in raw.items():
            if isinstance(key, str):
                entries[key] = self._read(value, item, under(path, key))
            else:
                self._tell_key(key, path)
        return entries

    def _read_list(self, raw: Any, kind: Any, item: Any, path: str) -> Any:
        if not isinstance(raw, list):
            return self._tell_misfit(raw, kind, path)
        items = tuple(self._read(value, item, f"{path}[{index}]") for index, value in enumerate(raw))
        return UNSOUND if UNSOUND in items else items

    def _read_leaf(self, raw: Any, kind: Any, path: str) -> Any:
        try:
            filled = self._fill(raw, kind) if isinstance(raw, str) else raw
            value = msgspec.convert(filled, kind, dec_hook=decode_secret)
        except UnresolvedError as error:
            return self._tell(path, error.problem, error.remedy)
        except msgspec.ValidationError:
            return self._tell_misfit(filled, kind, path)
        if isinstance(value, float) and not math.isfinite(value):
            return self._tell_misfit(filled, kind, path)
        return value

    def _fill(self, text: str, kind: Any) -> str:
        filled = self._interpolation.fill(text)
        return self._interpolation.locate(filled) if filled and _is_path(kind) else filled

    def _tell(self, path: str, problem: str, remedy: str) -> Unsound:
        self.faults.append(Fault(path, problem, remedy))
        return UNSOUND

    def _tell_key(self, key: object, path: str) -> None:
        self._tell(
            under(path, key), f"{name_kind(key)} is no name", "write a text, in quotes where it looks like a number"
        )

    def _tell_unknown(self, key: object, struct: type[msgspec.Struct], path: str) -> None:
        if not isinstance(key, str):
            self._tell_key(key, path)
        else:
            names = [field.name for field in msgspec.structs.fields(struct)]
            self._tell(under(path, key), "is not a known key", suggest(key, names))

    def _tell_misfit(self, raw: object, kind: Any, path: str) -> Unsound:
        """Tell what would fit. Names only the sort of value found, never the value: it may be a misplaced secret."""
        bare = _strip_annotation(kind)
        if isinstance(bare, type) and issubclass(bare, Enum) and isinstance(raw, str):
            return self._tell_choice(raw, bare, path)
        way_out = ", or leave the key out" if raw is None else ""
        return self._tell(path, f"{name_kind(raw)} does not fit", f"write {describe(kind)}{way_out}")

    def _tell_choice(self, raw: str, kind: type[Enum], path: str) -> Unsound:
        near = suggest(raw, (member.value for member in kind))
        hint = f" ({near})" if near.startswith("did") else ""
        return self._tell(path, "is none of the choices", f"write {describe(kind)}{hint}")


def _strip_annotation(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _is_path(kind: Any) -> bool:
    return any((getattr(note, "extra", None) or {}).get("is_path") for note in getattr(kind, "__metadata__", ()))
