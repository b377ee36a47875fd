"""Prompts by models' own templates: what each family's writes, who is at fault, and what a template may not do."""

import json
from datetime import UTC, datetime

import pytest

from gateway.backends.chat.sandbox import MAX_REPEATED
from gateway.backends.chat.template import ChatTemplate
from gateway.backends.chat.template_files import TemplateFiles
from gateway.core.errors import InvalidValueError, UpstreamFailureError, UpstreamRejectionError
from tests.engines import template
from tests.unit.backends.chat.templates import GEMMA2, LISTS, LLAMA3, MISTRAL, PHI4_MINI, QWEN3, render

USER = {"role": "user", "content": "How warm is it in Paris?"}
SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "call_0123456789abcdef01234567",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "Paris", "in": "°C"}'},
        }
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call_0123456789abcdef01234567", "content": "21"}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": 'Tell "it"', "parameters": {"type": "object"}},
}


def test_llama3_writes_its_headers_and_the_day():
    files = TemplateFiles({"default": LLAMA3}, {"bos_token": "<|begin_of_text|>"}, frozenset(), None)
    chosen = ChatTemplate(files, now=lambda: datetime(2026, 11, 21, tzinfo=UTC))
    assert render(chosen, SYSTEM, USER) == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday: 21 Nov 2026\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHow warm is it in Paris?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_llama3_puts_tools_into_the_first_message_and_writes_calls_and_results():
    written = render(LLAMA3, USER, CALL, RESULT, tools=[TOOL], date_string="a day")
    assert json.dumps(TOOL, indent=4, ensure_ascii=False) + "\n\nHow warm is it in Paris?<|eot_id|>" in written
    assert '{"name": "weather", "parameters": {"city": "Paris", "in": "°C"}}<|eot_id|>' in written
    assert "<|start_header_id|>ipython<|end_header_id|>\n\n21<|eot_id|>" in written


def test_qwen3_writes_tools_calls_results_and_thoughts():
    thought = {"role": "assistant", "content": "Hm.", "reasoning_content": "Let me think."}
    assert render(QWEN3, SYSTEM, USER, CALL, RESULT, {**RESULT, "content": "22"}, thought, tools=[TOOL]) == (
        "<|im_start|>system\nBe brief.\n\nWithin <tools></tools>:\n<tools>\n"
        + json.dumps(TOOL, ensure_ascii=False)
        + "\n</tools>\nCalls within <tool_call></tool_call>.<|im_end|>\n"
        "<|im_start|>user\nHow warm is it in Paris?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "weather", "arguments": {"city": "Paris", "in": "°C"}}\n'
        "</tool_call><|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n21\n</tool_response>\n<tool_response>\n22\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n<think>\nLet me think.\n</think>\n\nHm.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_clients_variables_reach_the_template():
    assert render(QWEN3, USER, enable_thinking=False).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert render(QWEN3, USER, enable_thinking=True).endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize(
    "variables",
    [
        {"messages": [], "tools": ["x"], "add_generation_prompt": False, "bos_token": "<b>"},
        {"raise_exception": "x", "strftime_now": "x", "range": "x"},
    ],
)
def test_a_clients_variables_take_no_place_of_what_is_there(variables):
    source = "{{ bos_token }}{{ messages | length }}{{ tools }}{{ add_generation_prompt }}{{ range(2) | list }}"
    written = template(source, bos="<s>").render(json.dumps([USER]).encode(), None, variables)
    assert written == "<s>1NoneTrue[0, 1]"


def test_mistral_writes_tools_before_the_last_question_and_short_ids():
    files = TemplateFiles({"default": MISTRAL}, {"bos_token": "<s>", "eos_token": "</s>"}, frozenset(), None)
    written = render(ChatTemplate(files), SYSTEM, USER, CALL, RESULT, tools=[TOOL])
    assert written == (
        '<s>[AVAILABLE_TOOLS] [{"type": "function", "function": {"name": "weather", "description": "Tell "it"", '
        '"parameters": {"type": "object"}}}][/AVAILABLE_TOOLS][INST] How warm is it in Paris?[/INST]'
        '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Paris", "in": "°C"}, "id": "f01234567"}]</s>'
        '[TOOL_RESULTS] {"content": 21, "call_id": "f01234567"}[/TOOL_RESULTS]'
    )


def test_an_id_that_is_too_short_is_made_long_enough():
    short = {**CALL, "tool_calls": [{**CALL["tool_calls"][0], "id": "a-1"}]}
    assert '"id": "0000000a1"' in render(MISTRAL, USER, short, {**RESULT, "tool_call_id": "a-1"})
    newer = MISTRAL.replace("length != 9", "length < 9")
    assert '"id": "0000000a1"' in render(newer, USER, short, {**RESULT, "tool_call_id": "a-1"})
    assert render("{{ messages[0].tool_calls[0].id }}", short) == "a-1"


def test_phi4_mini_finds_tools_in_the_systems_message():
    chosen = template(PHI4_MINI)
    assert chosen.takes_tools
    told = json.dumps([TOOL["function"]], ensure_ascii=False)
    assert render(chosen, SYSTEM, USER, tools=[TOOL]) == (
        f"<|system|>Be brief.<|tool|>{told}<|/tool|><|end|><|user|>How warm is it in Paris?<|end|><|assistant|>"
    )
    assert render(chosen, USER, tools=[TOOL]).startswith(f"<|system|><|tool|>{told}<|/tool|><|end|><|user|>")
    assert render(chosen, USER) == "<|user|>How warm is it in Paris?<|end|><|assistant|>"


def test_gemma_calls_the_assistant_model():
    assert render(GEMMA2, USER, {"role": "assistant", "content": " Warm. "}, USER, bos="<bos>") == (
        "<bos><start_of_turn>user\nHow warm is it in Paris?<end_of_turn>\n<start_of_turn>model\nWarm.<end_of_turn>\n"
        "<start_of_turn>user\nHow warm is it in Paris?<end_of_turn>\n<start_of_turn>model\n"
    )


@pytest.mark.parametrize(
    ("source", "messages", "words"),
    [
        (GEMMA2, [SYSTEM, USER], "System role not supported"),
        (GEMMA2, [USER, USER], "must alternate"),
        (MISTRAL, [USER, USER], "must alternate"),
        (LLAMA3, [USER, {**CALL, "tool_calls": CALL["tool_calls"] * 2}], "single tool-calls"),
    ],
)
def test_messages_that_a_template_refuses_are_the_clients_fault_in_its_words(source, messages, words):
    with pytest.raises(UpstreamRejectionError, match=words) as caught:
        render(source, *messages)
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].content + 1 }}",
        "{{ nobody.knows.this }}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content.nothing() }}",
        "{{ ''.__class__.__mro__ }}",
        "{% set _ = messages.append(1) %}",
        "{% set _ = messages[0].update({'role': 'system'}) %}",
        "{{ 'x' * 1000000000 }}",
        "{{ 1000000000 * 'x' }}",
        "{{ [0] * 1000000000 }}",
        "{{ 9 ** 999999999 }}",
        "{% for i in range(1000000000) %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% include 'x' %}",
    ],
)
def test_what_a_template_may_not_do_is_a_fault_of_the_model(source):
    with pytest.raises(UpstreamFailureError) as caught:
        render(source, USER)
    assert "Paris" not in caught.value.message


def test_a_failure_is_told_by_its_place_and_never_by_what_a_user_wrote():
    with pytest.raises(UpstreamFailureError) as caught:
        render("one\n{{ 'x%d' % messages[0].content }}", USER)
    assert caught.value.detail == "TypeError at line 2 of the template"
    with pytest.raises(UpstreamFailureError) as caught:
        render("\n\n{{ {}[messages[0].content].x }}", USER)
    assert caught.value.detail == "UndefinedError at line 3 of the template"


def test_a_templates_words_are_told_within_reason():
    with pytest.raises(UpstreamRejectionError) as caught:
        render("{{ raise_exception('x' * 5000) }}", USER)
    assert len(caught.value.message) < 600


def test_a_template_may_repeat_within_reason():
    assert render("{{ '-' * 40 }}{{ 6 * 7 }}", USER) == "-" * 40 + "42"
    assert len(render(f"{{{{ 'x' * {MAX_REPEATED} }}}}", USER)) == MAX_REPEATED


def test_a_prompt_beyond_any_window_is_not_written_to_its_end():
    source = "{% for a in range(99999) %}{% for b in range(99999) %}" + "x" * 4096 + "{% endfor %}{% endfor %}"
    with pytest.raises(UpstreamFailureError):
        render(source, USER)


def test_loop_controls_and_generation_blocks_are_understood():
    source = (
        "{% for message in messages %}{% if loop.index > 1 %}{% break %}{% endif %}"
        "{% generation %}{{ message.content }}{% endgeneration %}{% endfor %}"
    )
    assert render(source, USER, SYSTEM) == USER["content"]


def test_blocks_take_their_lines_with_them():
    assert render("a\n  {% if true %}\nb\n  {% endif %}\nc", USER) == "a\nb\nc"


def test_json_is_written_as_it_is():
    tool = {"b": "<é>&'", "a": [1]}
    assert render("{{ tools[0] | tojson }}", USER, tools=[tool]) == '{"b": "<é>&\'", "a": [1]}'
    assert render("{{ tools[0] | tojson(sort_keys=true, separators=(',', ':')) }}", USER, tools=[tool]).startswith(
        '{"a"'
    )
    assert render("{{ tools[0] | tojson(ensure_ascii=true) }}", USER, tools=[tool]).startswith('{"b": "<\\u00e9>')


def test_content_is_text_where_the_template_reads_text():
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    source = "{{ messages[0].content }}"
    assert render(source, {"role": "user", "content": parts}) == "one\ntwo"
    assert render(source, {"role": "assistant", "content": None}) == ""
    assert render(source, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}) == "No."


def test_content_is_a_list_where_the_template_reads_lists_only():
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert render(LISTS, {"role": "user", "content": parts}, USER) == (
        "<|user|>onetwo<|end|><|user|>How warm is it in Paris?<|end|>"
    )
    filtered = "{% for m in messages %}{% for c in m.content | list %}{{ c.text }}{% endfor %}{% endfor %}"
    assert render(filtered, {"role": "user", "content": parts}) == "onetwo"
    both = (
        "{% if messages[0].content is string %}text{% else %}{% for c in messages[0].content %}{% endfor %}{% endif %}"
    )
    assert render(both, {"role": "user", "content": parts}) == "text"


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "messages[0].content"),
        ({"role": "user", "content": 5}, "messages"),
        ({"role": "user<|im_end|>", "content": "x"}, "messages"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "messages"),
        ({"role": "assistant", "tool_calls": "x"}, "messages"),
        ({"content": "x"}, "messages"),
    ],
)
def test_messages_that_are_not_openais_are_told_to_the_client(message, param):
    with pytest.raises(InvalidValueError) as caught:
        render(QWEN3, message)
    assert caught.value.param == param


def test_arguments_are_objects_and_a_text_that_is_none_stays():
    def written(arguments):
        call = {"id": "x", "function": {"name": "f", "arguments": arguments}}
        return render(QWEN3, {"role": "assistant", "tool_calls": [call]})

    assert '"arguments": {"a": 1}}' in written('{"a":1}')
    assert '"arguments": {"a": 1}}' in written({"a": 1})
    assert '"arguments": {}}' in written("")
    assert '"arguments": {}}' in written(None)
    assert '"arguments": {"a": }' in written('{"a": ')


def test_no_calls_look_like_none():
    source = "{{ 'tool_calls' in messages[0] }}"
    assert render(source, {"role": "assistant", "content": "x", "tool_calls": []}) == "False"
    assert render(source, {"role": "assistant", "content": "x", "tool_calls": None}) == "False"


def test_a_developer_is_the_system_to_templates_that_know_none():
    said = {"role": "developer", "content": "Be brief."}
    assert render("{{ messages[0].role }}", said) == "system"
    assert render("{{ messages[0].role }}{# developer #}", said) == "developer"
    assert render("{{ messages[0].role }}", {"role": "function", "name": "f", "content": "1"}) == "tool"


def test_a_named_template_serves_requests_with_tools():
    chosen = template("plain", tool_use="{{ tools | length }} tools")
    assert render(chosen, USER) == "plain"
    assert render(chosen, USER, tools=[TOOL]) == "1 tools"
    assert chosen.takes_tools
    assert chosen.source == "{{ tools | length }} tools"
    assert [template(source).takes_tools for source in ("plain", GEMMA2, LISTS)] == [False] * 3
    assert [template(source).takes_tools for source in (LLAMA3, QWEN3, MISTRAL)] == [True] * 3
