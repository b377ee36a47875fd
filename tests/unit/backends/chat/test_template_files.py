"""Templates as they lie on a disk; what can't serve is found when it is loaded."""

import json

import pytest

from gateway.backends.backend import BackendLoadError
from gateway.backends.chat.template import load_template
from tests.unit.backends.chat.templates import MISTRAL, render

USER = {"role": "user", "content": "x"}
TOOL = {"type": "function", "function": {"name": "weather"}}


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text), "utf-8")
    return str(path)


def hello(path):
    chosen = load_template(str(path))
    return chosen.render(b'[{"role":"user","content":"x"}]', None, {}), chosen


def test_a_jinja_file_takes_its_tokens_from_beside(tmp_path):
    path = write(tmp_path, "mine.jinja", "{{ bos_token + 'é' + messages[0].content }}")
    assert hello(path)[0] == "éx"
    write(tmp_path, "mine.jinja", "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}")
    write(tmp_path, "tokenizer_config.json", {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}})
    assert hello(path)[0] == "<s>x</s>"


def test_a_tokenizer_config_holds_a_template_or_has_it_beside(tmp_path):
    path = write(
        tmp_path, "tokenizer_config.json", {"bos_token": None, "chat_template": "inside {{ messages[0].content }}"}
    )
    assert hello(path)[0] == "inside x"
    assert hello(tmp_path)[0] == "inside x"
    write(tmp_path, "chat_template.jinja", "beside {{ messages[0].content }}")
    assert hello(path)[0] == "beside x"
    assert hello(tmp_path)[0] == "beside x"


def test_a_list_of_templates_has_one_for_tools(tmp_path):
    named = [
        {"name": "tool_use", "template": "{{ tools | length }}"},
        {"name": "default", "template": "{{ messages[0].content }}"},
    ]
    path = write(tmp_path, "tokenizer_config.json", {"chat_template": named})
    text, chosen = hello(path)
    assert text == "x"
    assert render(chosen, USER, tools=[TOOL]) == "1"
    write(tmp_path, "additional_chat_templates/tool_use.jinja", "other {{ tools | length }}")
    assert render(load_template(path), USER, tools=[TOOL]) == "other 1"


def test_control_tokens_are_read_from_the_file(tmp_path):
    added = {"1": {"content": "[x]", "special": True}, "2": {"content": "[y]", "special": False}}
    config = {"chat_template": "{{ messages[0].content }}", "added_tokens_decoder": added}
    path = write(tmp_path, "tokenizer_config.json", {**config, "additional_special_tokens": ["[z]"]})
    assert render(load_template(path), {"role": "user", "content": "[x][y][z]"}) == "[ x][y][ z]"


def test_the_bos_that_a_server_adds_is_known(tmp_path):
    config = {"chat_template": "{{ bos_token + messages[0].content }}", "bos_token": "<s>"}
    for told, bos in ((None, "<s>"), (True, "<s>"), (False, "")):
        path = write(tmp_path, "tokenizer_config.json", {**config, "add_bos_token": told})
        assert load_template(path).bos == bos


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.jinja", "{% if %}"),
        ("x.jinja", "{{ messages | nothing }}"),
        ("x.jinja", "{{ 1 / 0 }}"),
        ("x.jinja", "{{ raise_exception('No users.') }}"),
        ("x.jinja", "models: {}"),  # a file of another kind, which would hide what users say
        ("x.jinja", MISTRAL),  # nobody tells its eos_token
        ("tokenizer_config.json", "{"),
        ("tokenizer_config.json", {"chat_template": 5}),
        ("tokenizer_config.json", {}),
        ("tokenizer_config.json", {"chat_template": []}),
    ],
)
def test_a_template_that_cannot_serve_is_found_when_it_is_loaded(tmp_path, name, text):
    with pytest.raises(BackendLoadError) as caught:
        load_template(write(tmp_path, name, text))
    assert caught.value.key == "chat_template"


def test_a_name_of_nothing_is_told_even_beside_a_template(tmp_path):
    write(tmp_path, "tokenizer_config.json", {"chat_template": "{{ messages[0].content }}"})
    with pytest.raises(BackendLoadError, match="is not there"):
        load_template(str(tmp_path / "mistyped.jinja"))


def test_a_file_that_is_not_there_or_not_utf8_is_told(tmp_path):
    for path in (tmp_path / "none.jinja", tmp_path):
        with pytest.raises(BackendLoadError, match="chat_template"):
            load_template(str(path))
    (tmp_path / "x.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(BackendLoadError, match="can't be read"):
        load_template(str(tmp_path / "x.jinja"))
