"""Bring the chart's documents up to date: `make chart`, or `--check` to be told whether they are.

The comments `# --` of values.yaml are the one place where values are described. From there the descriptions go into
values.schema.json, whose types are written by hand, and into the table of the chart's README. The schema of the
gateway's own configuration goes into values.schema.json too, so that `helm lint` sees what the gateway would refuse.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from gateway.settings.schema import json_schema

CHART = Path(__file__).parent.parent / "helm" / "postern"
BEGIN, END = "<!-- values: begin -->\n", "<!-- values: end -->\n"
LONGEST_DEFAULT = 60

SET_BY_CHART = ("Settings", "RedisSettings", "ModelSettings", "TritonSettings")
"""What these require may be missing from the values: no configuration is one, the url comes from `redis`, and how a
model is reached, from `triton`."""

_COMMENT = re.compile(r"\s*# -- (?P<text>.+)")
_KEY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z]\w*):(?P<rest>.*)")

Described = dict[tuple[str, ...], str]
Json = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Write what is out of date, or only tell."""
    stale = [path for path, text in documents() if path.read_text() != text]
    if "--check" in arguments:
        for path in stale:
            print(f"{path.name} is out of date: run `make chart`")
        return 1 if stale else 0
    for path, text in documents():
        path.write_text(text)
    return 0


def documents() -> Iterator[tuple[Path, str]]:
    """Yield each document and the text that it should hold."""
    text = (CHART / "values.yaml").read_text()
    described, values = read_descriptions(text), yaml.safe_load(text)
    schema = CHART / "values.schema.json"
    yield schema, render_schema(json.loads(schema.read_text()), described, values)
    readme = CHART / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    after = rest.split(END)[1]
    yield readme, before + BEGIN + render_table(described, values) + END + after


def read_descriptions(text: str) -> Described:
    """Return the description of each key that has one, in order."""
    found: Described = {}
    path: list[tuple[int, str]] = []
    waiting: str | None = None
    for line in text.splitlines():
        if comment := _COMMENT.fullmatch(line):
            waiting = comment["text"]
        elif key := _KEY.fullmatch(line):
            indent = len(key["indent"])
            path = [*(step for step in path if step[0] < indent), (indent, key["key"])]
            if waiting is not None:
                found[tuple(name for _, name in path)] = waiting
            waiting = None
    return found


def render_schema(schema: Json, described: Described, values: Json) -> str:
    """Return the schema with the values' descriptions, what may not be null and the gateway's own schema put in."""
    for path, text in described.items():
        find(schema, path)["description"] = text
    require(schema, values)
    own = {name: node for name, node in schema["definitions"].items() if name[0].islower()}
    schema["definitions"] = own | gateway_definitions()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def require(node: Json, values: Json) -> None:
    """Require what has a default: Helm takes a key that is set to null out, and a template would stumble over it."""
    properties = node["properties"]
    held = {name: value for name, value in values.items() if name in properties}
    node["required"] = sorted(
        name for name, value in held.items() if value is not None and not is_nullable(properties[name])
    )
    for name, value in held.items():
        if isinstance(value, dict) and "properties" in properties[name]:
            require(properties[name], value)


def is_nullable(node: Json) -> bool:
    """Tell whether a value may be null."""
    return "null" in node.get("type", []) or node.get("$ref") == "#/definitions/count"


def find(schema: Json, path: tuple[str, ...]) -> Json:
    """Return what the schema says of a value. Raises KeyError for one that it does not know."""
    node = schema
    for name in path:
        if "$ref" in node:
            node = schema["definitions"][node["$ref"].rpartition("/")[2]]
        node = node["properties"][name]
    return node


def gateway_definitions() -> Json:
    """Return the configuration's schema, by its parts, as the chart's values hold it."""
    text = json.dumps(json_schema()["$defs"]).replace("#/$defs/", "#/definitions/")
    parts: Json = json.loads(text)
    for name in SET_BY_CHART:
        parts[name].pop("required")
    parts["Capability"]["enum"].append(False)
    parts["Capability"]["description"] = "false is n, as Helm reads it."
    return parts


def render_table(described: Described, values: Json) -> str:
    """Return the values as a table: names, defaults, descriptions."""
    rows = [f"| `{'.'.join(path)}` | {default(values, path)} | {escape(text)} |" for path, text in described.items()]
    return "\n".join(["| value | default | |", "|---|---|---|", *rows]) + "\n"


def default(values: Json, path: tuple[str, ...]) -> str:
    """Return a value's default as the table shows it; nothing for one whose parts have rows of their own."""
    value: Any = values
    for name in path:
        value = value[name]
    text = json.dumps(value)
    if len(text) > LONGEST_DEFAULT:
        return "see values.yaml"
    return f"`{text}`"


def escape(text: str) -> str:
    """Return a text that stays in its cell."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
