"""Router folders for tests: copies of the one that ships, each another version of it."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).parents[1] / "router_models" / "artifacts" / "default"


def copy_router(folder: Path, note: bytes = b"", **manifest: Any) -> Path:
    """Write a copy. A `note` of up to 127 bytes changes its version and nothing else: ONNX's field `doc_string`."""
    folder.mkdir(exist_ok=True)
    for path in SHIPPED.iterdir():
        if path.suffix != ".md" and not (folder / path.name).exists():
            shutil.copy(path, folder)
    write_version(folder, note, **manifest)
    return folder


def version_of(note: bytes, **manifest: Any) -> tuple[bytes, bytes]:
    """Return the model and the manifest of a version."""
    model = (SHIPPED / "model.onnx").read_bytes() + (b"\x32" + bytes([len(note)]) + note if note else b"")
    told = json.loads((SHIPPED / "manifest.json").read_text())
    told |= {"sha256": hashlib.sha256(model).hexdigest(), **manifest}
    return model, json.dumps(told).encode()


def write_version(folder: Path, note: bytes, **manifest: Any) -> None:
    """Write a version into a folder, as a copy over the network does: in place, file by file."""
    model, told = version_of(note, **manifest)
    (folder / "model.onnx").write_bytes(model)
    (folder / "manifest.json").write_bytes(told)
