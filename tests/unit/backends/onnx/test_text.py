import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from gateway.backends.onnx.text import MAX_PENDING_TOKENS, AnswerText, Vocabulary


@pytest.fixture
def vocabulary(tiny):
    return Vocabulary(tiny)


@pytest.fixture
def byte_tokens(tiny):
    """Tokens of single bytes: no words, no merges."""
    tokenizer = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    return lambda text: [token for one in text for token in tokenizer.encode(one).ids]


@pytest.fixture
def old_llama(tmp_path):
    """A tokenizer in the manner of SentencePiece: marked spaces, bytes as tokens of their own, a first token."""
    words = {"<s>": 0, "</s>": 1, "<unk>": 2, "▁": 3, "▁Hello": 4, "▁there": 5, "<0xE6>": 6, "<0xBC>": 7, "<0xA2>": 8}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    tokenizer.add_special_tokens([AddedToken("[TOOL_CALLS]", special=True)])
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return Vocabulary(tmp_path)


def shown(vocabulary, tokens, *stop):
    """What is shown after each token, and at the end."""
    text, found = AnswerText(vocabulary, stop), []
    for token in tokens:
        text.add(token)
        found.append(text.take())
    return [*found, text.finish()], text.is_stopped


def test_a_character_of_several_tokens_is_shown_once_it_is_whole(vocabulary, byte_tokens):
    found, _ = shown(vocabulary, byte_tokens("a漢🙂é"))
    assert found == ["a", "", "", "漢", "", "", "", "🙂", "", "é", ""]


def test_half_a_character_at_the_end_of_a_cut_answer_is_not_shown(vocabulary, byte_tokens):
    found, _ = shown(vocabulary, byte_tokens("a漢")[:-1])
    assert "".join(found) == "a"


def test_whole_characters_before_a_half_one_are_shown_at_once(vocabulary, byte_tokens):
    broken, half = byte_tokens("漢")[1], byte_tokens("é")[0]
    text = AnswerText(vocabulary, ())
    for token in [broken, *byte_tokens("b"), half]:
        text.add(token)
    assert text.take() == "\N{REPLACEMENT CHARACTER}b"


def test_bytes_that_never_become_a_character_are_shown_in_the_end(vocabulary, byte_tokens):
    broken = byte_tokens("漢")[1]
    found, _ = shown(vocabulary, [broken] * (MAX_PENDING_TOKENS + 1) + byte_tokens("ab"))
    assert "".join(found).endswith("ab")
    assert any(found[: MAX_PENDING_TOKENS + 1])


def test_spaces_marked_in_tokens_stand_between_words_only(old_llama):
    found, _ = shown(old_llama, [4, 5, 5, 6, 7, 8, 5])
    assert found == ["Hello", " there", " there", "", "", "漢", " there", ""]


@pytest.mark.parametrize("stop", [(" there",), ("nowhere", "lo there"), ("o th", "o the")])
def test_nothing_is_shown_of_a_stop_string_nor_after_it(vocabulary, byte_tokens, stop):
    whole = "Hello there you"
    found, is_stopped = shown(vocabulary, byte_tokens(whole), *stop)
    assert is_stopped
    assert "".join(found) == whole[: min(whole.find(one) for one in stop if one in whole)]


def test_what_may_begin_a_stop_string_waits_and_comes_if_it_does_not(vocabulary, byte_tokens):
    found, is_stopped = shown(vocabulary, byte_tokens("ab\n\nc\n"), "\n\n\n")
    assert found == ["a", "b", "", "", "\n\nc", "", "\n"]
    assert not is_stopped


def test_special_tokens_are_silent_but_those_that_mark_a_tool_call(old_llama):
    assert "".join(shown(old_llama, [4, 0, 1, 9, 5])[0]) == "Hello[TOOL_CALLS] there"


def test_a_prompt_gets_its_first_token_once_and_is_never_cut_nor_filled(old_llama):
    assert old_llama.encode("Hello there Hello there") == [0, 4, 5, 4, 5]
    assert old_llama.encode("<s>Hello there Hello there") == [0, 4, 5, 4, 5]
