"""Tool calls in a model's text: found as each family writes them, whole or in pieces, and never lost."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.backends.chat.families import GRAMMARS, guess_format
from gateway.backends.chat.tool_calls import CallDelta, ToolCalls
from gateway.settings.engines import ToolFormat

NAMES = frozenset({"get_weather", "add", "get"})
LLAMA3, MISTRAL, HERMES = ToolFormat.LLAMA3, ToolFormat.MISTRAL, ToolFormat.HERMES


def sum_up(deltas):
    """Return the text, and each call's name and arguments, of what came."""
    text, calls = "", []
    for delta in deltas:
        if isinstance(delta, str):
            text += delta
        elif delta.name is not None:
            assert delta.index == len(calls)
            assert delta.call_id.startswith("call_")
            assert delta.arguments == ""
            calls.append([delta.name, ""])
        else:
            assert delta.index == len(calls) - 1
            assert delta.call_id is None
            calls[delta.index][1] += delta.arguments
    return text, [tuple(call) for call in calls]


def read(family, *pieces, is_parallel=True, names=NAMES):
    finder = ToolCalls(GRAMMARS[family], names, is_parallel=is_parallel)
    found = [delta for piece in pieces for delta in finder.feed(piece)]
    return sum_up(found + finder.end())


PARIS = '{"city": "Paris"}'
WEATHER = ("get_weather", PARIS)
SUM = ("add", '{"a": 1, "b": 2}')
ADDING = '{"name": "add", "arguments": {"a": 1, "b": 2}}'
WRITTEN = {
    "llama, bare": (LLAMA3, '{"name": "get_weather", "parameters": {"city": "Paris"}}', "", [WEATHER]),
    "llama, with its tag": (LLAMA3, '<|python_tag|>{"name": "f", "parameters": {}}', "", [("f", "{}")]),
    "llama, with a type": (
        LLAMA3,
        '{"type": "function", "name": "get_weather", "parameters": {"city": "Paris"}}',
        "",
        [WEATHER],
    ),
    "llama, the name called function": (
        LLAMA3,
        '{"function": "get_weather", "parameters": {"city": "Paris"}}',
        "",
        [WEATHER],
    ),
    "llama, within function": (
        LLAMA3,
        '{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}',
        "",
        [WEATHER],
    ),
    "llama, parted by semicolons": (
        LLAMA3,
        '{"name": "get_weather", "parameters": {"city": "Paris"}}; {"name": "add", "parameters": {"a": 1, "b": 2}}',
        "",
        [WEATHER, SUM],
    ),
    "llama, with its tag and semicolons": (
        LLAMA3,
        '<|python_tag|>{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}',
        "",
        [("f", "{}"), ("g", "{}")],
    ),
    "llama, text before": (
        LLAMA3,
        'I will look.\n\n{"name": "get_weather", "parameters": {"city": "Paris"}}',
        "I will look.",
        [WEATHER],
    ),
    "phi, a list": (
        LLAMA3,
        '[{"name": "get_weather", "arguments": {"city": "Paris"}}, ' + ADDING + "]",
        "",
        [WEATHER, SUM],
    ),
    "llama, in a fence": (
        LLAMA3,
        '```json\n{"name": "add", "parameters": {"a": 1, "b": 2}}\n```',
        "```json\n```",
        [SUM],
    ),
    "llama, JSON that is no call": (
        LLAMA3,
        '{"name": "Bob", "parameters": {}}',
        '{"name": "Bob", "parameters": {}}',
        [],
    ),
    "llama, an answer in JSON": (LLAMA3, '{"city": "Paris"}', '{"city": "Paris"}', []),
    "llama, a name alone": (LLAMA3, '{"name": "add"}', '{"name": "add"}', []),
    "llama, JSON within a line": (
        LLAMA3,
        'Say {"name": "add", "parameters": {}}',
        'Say {"name": "add", "parameters": {}}',
        [],
    ),
    "llama, Python": (LLAMA3, '<|python_tag|>search.call(query="x")', '<|python_tag|>search.call(query="x")', []),
    "mistral, a list": (
        MISTRAL,
        '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "abc"}, ' + ADDING + "]",
        "",
        [WEATHER, SUM],
    ),
    "mistral, names that nobody gave": (
        MISTRAL,
        '[TOOL_CALLS][{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]',
        "",
        [("f", "{}"), ("g", "{}")],
    ),
    "mistral, one object": (MISTRAL, '[TOOL_CALLS]{"name": "f", "arguments": {}}', "", [("f", "{}")]),
    "mistral, headed": (
        MISTRAL,
        '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}[TOOL_CALLS]add{"a": 1, "b": 2}',
        "",
        [WEATHER, SUM],
    ),
    "mistral, headed with an id": (
        MISTRAL,
        '[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]{"city": "Paris"}',
        "",
        [WEATHER],
    ),
    "mistral, the mark dropped": (
        MISTRAL,
        ' [{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "add", "arguments": {"a": 1, "b": 2}}]',
        "",
        [WEATHER, SUM],
    ),
    "mistral, headed, the mark dropped": (MISTRAL, 'get_weather{"city": "Paris"}', "", [WEATHER]),
    "mistral, text before": (MISTRAL, 'Let me see.[TOOL_CALLS]add[ARGS]{"a": 1, "b": 2}', "Let me see.", [SUM]),
    "mistral, a word before the bracket": (MISTRAL, "[TOOL_CALLS] I can't.", "[TOOL_CALLS] I can't.", []),
    "mistral, a sentence before a brace": (MISTRAL, "[TOOL_CALLS]I can {x}", "[TOOL_CALLS]I can {x}", []),
    "mistral, a tool's name in text": (MISTRAL, "get_weather is a tool", "get_weather is a tool", []),
    "mistral, a name that begins another": (MISTRAL, 'get{"a": 1}', "", [("get", '{"a": 1}')]),
    "hermes": (
        HERMES,
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
        "",
        [WEATHER],
    ),
    "hermes, two": (
        HERMES,
        f'<tool_call>{{"name": "get_weather", "arguments": {PARIS}}}</tool_call>\n<tool_call>\n{ADDING}\n</tool_call>',
        "",
        [WEATHER, SUM],
    ),
    "hermes, text before and behind": (
        HERMES,
        'Let me see.\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\nDone.\n',
        "Let me see.\nDone.\n",
        [("f", "{}")],
    ),
    "hermes, never closed": (HERMES, '<tool_call>\n{"name": "f", "arguments": {"a": 1}}', "", [("f", '{"a": 1}')]),
    "hermes, a brace too few": (
        HERMES,
        '<tool_call>\n{"name": "f", "arguments": {"a": 1}\n</tool_call>',
        "",
        [("f", '{"a": 1}')],
    ),
    "hermes, braces too many": (
        HERMES,
        '<tool_call>\n{"name": "f", "arguments": {"a": 1}}}}\n</tool_call>',
        "",
        [("f", '{"a": 1}')],
    ),
    "hermes, the arguments first": (
        HERMES,
        '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>',
        "",
        [("f", '{"a": 1}')],
    ),
    "hermes, the arguments in a string": (
        HERMES,
        '<tool_call>{"name": "f", "arguments": "{\\"a\\": \\"\\u00e9\\"}"}</tool_call>',
        "",
        [("f", '{"a": "é"}')],
    ),
    "hermes, no arguments": (HERMES, '<tool_call>{"name": "f"}</tool_call>', "", [("f", "{}")]),
    "hermes, arguments that are null": (
        HERMES,
        '<tool_call>{"name": "f", "arguments": null}</tool_call>',
        "",
        [("f", "{}")],
    ),
    "hermes, a quote forgotten": (
        HERMES,
        '<tool_call>{"name": "f", "arguments": {"a": "b}}</tool_call>after',
        "after",
        [("f", '{"a": "b}}')],
    ),
    "hermes, single quotes": (
        HERMES,
        "<tool_call>{'name': 'f', 'arguments': {}}</tool_call>",
        "<tool_call>{'name': 'f', 'arguments': {}}</tool_call>",
        [],
    ),
    "hermes, in another language": (
        HERMES,
        "<tool_call>\n<function=f>\n<parameter=a>1</parameter>\n</function>\n</tool_call>",
        "<tool_call>\n<function=f>\n<parameter=a>1</parameter>\n</function>\n</tool_call>",
        [],
    ),
    "hermes, a call within a broken one": (
        HERMES,
        '<tool_call><tool_call>{"name": "f", "arguments": {}}</tool_call>',
        "<tool_call>",
        [("f", "{}")],
    ),
    "hermes, the mark forgotten": (
        HERMES,
        '{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>',
        "",
        [SUM],
    ),
    "braces, quotes and line ends in arguments": (
        HERMES,
        '<tool_call>{"name": "f", "arguments": {"a": "}{\\"\\\\", "b": [{"c": "]"}], "d": "x\ny"}}</tool_call>',
        "",
        [("f", '{"a": "}{\\"\\\\", "b": [{"c": "]"}], "d": "x\ny"}')],
    ),
    "hermes, JSON behind a call": (
        HERMES,
        '<tool_call>{"name": "f", "arguments": {}}</tool_call>\n{"name": "g", "arguments": {}}',
        '{"name": "g", "arguments": {}}',
        [("f", "{}")],
    ),
    "hermes, other keys": (
        HERMES,
        '<tool_call>{"id": {"x": "}"}, "index": 0, "type": null, "name": "f", "arguments": {}, "y": [1]}</tool_call>',
        "",
        [("f", "{}")],
    ),
    "hermes, half a mark in arguments": (HERMES, '<tool_call>{"name": "f", "arguments": {"a</', "", [("f", '{"a</')]),
    "text alone, blanks and all": (HERMES, "\n Hello, <tool> {x}\n\n", "\n Hello, <tool> {x}\n\n", []),
}


@pytest.mark.parametrize(("family", "written", "text", "calls"), WRITTEN.values(), ids=WRITTEN)
def test_calls_are_found_as_they_are_written(family, written, text, calls):
    assert read(family, written) == (text, calls)


@pytest.mark.parametrize(("family", "written", "text", "calls"), WRITTEN.values(), ids=WRITTEN)
def test_they_are_found_character_by_character(family, written, text, calls):
    assert read(family, *written) == (text, calls)


def test_arguments_come_as_they_are_written():
    finder = ToolCalls(GRAMMARS[HERMES], NAMES)
    assert finder.feed('Look.\n<tool_call>\n{"name": "f"') == ["Look."]
    begun = finder.feed(', "arguments": {"a"')
    assert [type(one) for one in begun] == [CallDelta, CallDelta]
    assert (begun[0].name, begun[1].arguments) == ("f", '{"a"')
    assert finder.feed(": 1") == [CallDelta(0, arguments=": 1")]
    assert finder.feed("}}\n</tool") == [CallDelta(0, arguments="}")]
    assert finder.feed("_call>") == []
    assert finder.end() == []


def test_no_more_text_is_held_back_than_could_be_a_mark():
    finder = ToolCalls(GRAMMARS[HERMES], NAMES)
    assert finder.feed("a < b <tool") == ["a < b"]
    assert finder.feed("box>") == [" <toolbox>"]
    finder = ToolCalls(GRAMMARS[MISTRAL], NAMES)
    assert finder.feed("get_we") == []
    assert finder.feed("ird things") == ["get_weird things"]


def test_a_piece_that_begins_a_line_may_begin_a_call():
    assert read(LLAMA3, "Hi", f"\n{ADDING}") == ("Hi", [SUM])
    assert read(LLAMA3, "Hi", ADDING) == ("Hi" + ADDING, [])


def test_an_answer_in_json_is_not_held_back():
    finder = ToolCalls(GRAMMARS[LLAMA3], NAMES)
    assert finder.feed('{"answer": ') == ['{"answer":']


def test_each_call_has_an_id_of_its_own():
    finder = ToolCalls(GRAMMARS[HERMES], NAMES)
    found = finder.feed('<tool_call>{"name": "f"}</tool_call>' * 3)
    assert len({delta.call_id for delta in found if delta.name}) == 3


@pytest.mark.parametrize("family", GRAMMARS)
def test_one_call_is_enough_where_they_may_not_be_parallel(family):
    call = '{"name": "add", "arguments": {"a": 1, "b": 2}}'
    finder = ToolCalls(GRAMMARS[family], NAMES, is_parallel=False)
    mark, close = GRAMMARS[family].mark, GRAMMARS[family].close
    found = finder.feed(f"{mark}{call}{close}\n{mark}{call}")
    assert finder.is_full
    assert sum_up([*found, *finder.feed(call), *finder.end()]) == ("", [SUM])


def test_what_begins_like_calls_again_and_again_is_read_in_bounded_time():
    written = '<tool_call>{"arguments": {"x": "' + "y" * 300 + '"}, "z": 1}\n'
    text, calls = read(HERMES, *([written] * 500), '<tool_call>{"name": "f"}</tool_call>')
    assert text.count("<tool_call>") == 501
    assert calls == []


def test_arguments_that_come_before_a_name_are_not_held_for_ever():
    written = '<tool_call>{"arguments": {"x": "' + "y" * 100_000 + '"}, "name": "f"}</tool_call>'
    assert read(HERMES, written) == (written, [])
    assert read(HERMES, *(written[at : at + 1000] for at in range(0, len(written), 1000))) == (written, [])


@pytest.mark.parametrize(
    "written",
    [
        *(f'{{"name": "{name}", "arguments": {{}}}}' for name in ("x" * 129, "", "\\ud83d", "\\x", "x" * 70_000)),
        *(
            f'{{"name": "f", "arguments": {found}}}'
            for found in ("5", '"Paris"', "[1]", "true", '"{\\ud83d"', '"{\\x}"')
        ),
        '{"name": "f", "name": "g", "arguments": {}}',
        '{"arguments": {}, "arguments": {}, "name": "f"}',
        '{"a key that nobody would look for": 1}',
        '{"name" "f"}',
        '{"name": "f" "arguments": {}}',
        '{"name": 5, "arguments": {}}',
        '{"function": ' * 5000,
        "x" * 1000,
    ],
)
@pytest.mark.parametrize("family", [HERMES, MISTRAL])
def test_what_is_no_call_is_given_as_text(family, written):
    written = f"{GRAMMARS[family].mark}{written}{GRAMMARS[family].close}"
    assert read(family, written) == (written, [])
    assert read(family, *(written[at : at + 7] for at in range(0, len(written), 7))) == (written, [])


@pytest.mark.parametrize(
    ("source", "family"),
    [
        ("...within <tool_call></tool_call> XML tags:", HERMES),
        ("<tool_call>\n<function=name>", None),
        ("{{ '[TOOL_CALLS]' }}", MISTRAL),
        ("{{ '<|start_header_id|>ipython<|end_header_id|>' }}", LLAMA3),
        ("{{ '<|python_tag|>' }}", LLAMA3),
        ("{{ '<|tool|>' + message['tools'] + '<|/tool|>' }}", LLAMA3),
        ("<|start_header_id|>", None),
        ("<|im_start|>", None),
    ],
)
def test_the_family_is_told_from_the_template(source, family):
    assert guess_format(source) is family


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# What models write, and what may confuse: marks and their parts, JSON and its parts, blanks.
BITS = st.sampled_from(
    [
        *("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "[ARGS]", "<tool", "[TOOL", "</"),
        *(
            '{"name": "add", "arguments": {',
            '{"name": "f", ',
            '"parameters": {}}',
            '"arguments": "{}"}',
            '"name": "add"',
        ),
        *(
            "{",
            "}",
            "[",
            "]",
            '"',
            "\\",
            "\\\\",
            ":",
            ",",
            ";",
            "\n",
            " ",
            "\t",
            "add",
            "get",
            "_weather",
            "text",
            "é",
            "😀",
        ),
        *('{"arguments": {"a": 1}, ', '{"function": {', '"type": "function", ', "null", "1"),
    ]
)
TEXTS = st.lists(BITS, max_size=14).map("".join)


@unhurried
@given(family=st.sampled_from(list(GRAMMARS)), text=TEXTS, data=st.data())
def test_however_a_text_is_cut_the_same_is_found(family, text, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert read(family, *pieces) == read(family, text)
    assert read(family, *text) == read(family, text)


@unhurried
@given(family=st.sampled_from(list(GRAMMARS)), text=TEXTS)
def test_nothing_but_marks_and_separators_is_lost(family, text):
    found, calls = read(family, text)
    if not calls:
        assert found == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(st.text(max_size=6), JSON, max_size=4)
INTRODUCTIONS = st.sampled_from(["", "Let me see.", "Look: {x}\nand ", "\n\n"])


def write(family, calls, *, ascii_only):
    objects = [json.dumps({"name": name, "arguments": found}, ensure_ascii=ascii_only) for name, found in calls]
    if family is HERMES:
        return "\n".join(f"<tool_call>\n{one}\n</tool_call>" for one in objects)
    return f"[TOOL_CALLS][{', '.join(objects)}]" if family is MISTRAL else "<|python_tag|>" + "; ".join(objects)


@unhurried
@given(
    family=st.sampled_from(list(GRAMMARS)),
    before=INTRODUCTIONS,
    calls=st.lists(st.tuples(st.sampled_from(sorted(NAMES)), ARGUMENTS), min_size=1, max_size=3),
    ascii_only=st.booleans(),
    size=st.integers(1, 12),
)
def test_calls_that_are_well_written_come_back_whole(family, before, calls, ascii_only, size):
    written = before + write(family, calls, ascii_only=ascii_only)
    text, found = read(family, *(written[at : at + size] for at in range(0, len(written), size)))
    assert text == before.rstrip()
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls
