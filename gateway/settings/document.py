"""YAML text to plain values. Knows nothing of what the keys mean.

Narrower than YAML 1.1 where that would surprise: no tags, no duplicate keys, no dates; `1e-3` is a number.
"""

import re
from collections.abc import Iterator
from typing import Protocol

import yaml

from gateway.settings.faults import Fault, SettingsError, show

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML built without libyaml: ten times slower, the same values
    from yaml import SafeLoader  # type: ignore[assignment]

# The configuration is five levels deep. libyaml's composer recurses on the C stack: 100,000 levels crash the process.
_MAX_DEPTH = 64
_UNWANTED_TAGS = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
_EXPONENT = re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+$")
_QUOTED = re.compile(r"'[^'\s]{4,}'")


class _Mark(Protocol):
    """Where something stands: libyaml's marks and PyYAML's own have this in common."""

    @property
    def line(self) -> int: ...


class _Loader(SafeLoader):
    """SafeLoader without dates (an api key may look like one), with YAML 1.2's floats."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own class-level table, copied, never changed
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _UNWANTED_TAGS]
        for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def read_document(text: str) -> object:
    """Parse one YAML document; raise SettingsError with the line of each fault. An empty one is None."""
    faults: list[Fault] = []
    document: object = None
    try:
        faults = [_tell_line(*found) for found in _find_unwanted(text)]
        if not faults:
            document, faults = _construct(text)
    except yaml.YAMLError as error:
        faults = [_tell_syntax(error)]
    except (ValueError, OverflowError, RecursionError):
        # A number of 5,000 digits, a lone surrogate, a merge key that merges itself.
        faults = [Fault("configuration", "holds something YAML cannot read", "write plain texts and numbers")]
    if faults:  # raised out here, so that no parser's error, which quotes the text, is chained to it
        raise SettingsError(faults)
    return document


def _find_unwanted(text: str) -> Iterator[tuple[_Mark | None, str, str]]:
    """Yield line, problem and remedy of tags and of nesting too deep, before anything recurses."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            yield event.start_mark, "is nested too deep", f"stay within {_MAX_DEPTH} levels"
            return
        if getattr(event, "tag", None):
            yield event.start_mark, "has a tag (!…)", "write the value alone, in quotes where it starts with !"


def _construct(text: str) -> tuple[object, list[Fault]]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, []
        faults = [
            _tell_line(key.start_mark, f"the key {show(key.value)} stands twice", "keep one of the two")
            for key in _find_duplicates(node)
        ]
        return (None, faults) if faults else (loader.construct_document(node), [])
    finally:
        loader.dispose()


def _find_duplicates(root: yaml.Node) -> Iterator[yaml.ScalarNode]:
    """Yield every key that its mapping already has. Looks at nodes, before merge keys (<<) add to them."""
    waiting, visited = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(reversed(node.value))
        elif isinstance(node, yaml.MappingNode):
            yield from _repeated(node)
            waiting.extend(value for _, value in reversed(node.value))


def _repeated(node: yaml.MappingNode) -> Iterator[yaml.ScalarNode]:
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if (key.tag, key.value) in seen:
            yield key
        seen.add((key.tag, key.value))


def _tell_line(mark: _Mark | None, problem: str, remedy: str) -> Fault:
    return Fault(f"line {mark.line + 1}" if mark else "configuration", problem, remedy)


def _tell_syntax(error: yaml.YAMLError) -> Fault:
    """Name the line and the problem, never the text: str(error) would quote the line, secrets included."""
    remedy = "mend the YAML there: two spaces a level, `key: value`, texts with special characters in quotes"
    if isinstance(error, yaml.MarkedYAMLError):
        return _tell_line(error.problem_mark, _QUOTED.sub("…", error.problem or "is not YAML"), remedy)
    return Fault("configuration", "holds a character that YAML does not allow", "save it as UTF-8 text")
