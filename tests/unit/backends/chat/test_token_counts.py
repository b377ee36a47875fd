"""True token counts, by a tokenizer's own file."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from gateway.backends.backend import BackendLoadError
from gateway.backends.chat.tokens import MAX_AT_ONCE_CHARACTERS, TokenCounter, load_tokenizer


def words(*, bos=False):
    """A tokenizer of words, which puts `<s>` before a text where it is told to, and has been trained on short texts."""
    tokenizer = Tokenizer(models.WordLevel({"<s>": 0, "<unk>": 1}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=5)
    return tokenizer


def test_a_text_is_counted_whole_whatever_the_file_cuts_or_fills():
    counter = TokenCounter(words())
    assert counter.count("one two three four five six") == 6
    assert counter.count("") == 0


def test_a_prompt_has_the_bos_that_its_tokenizer_adds_and_an_answer_has_not():
    counter = TokenCounter(words(bos=True))
    assert counter.count("one two") == 3
    assert counter.count("one two", is_prompt=False) == 2
    assert counter.adds("<s>")
    assert not counter.adds("</s>")
    assert not counter.adds("")
    assert not TokenCounter(words()).adds("<s>")
    assert not TokenCounter(words()).adds("")


async def test_a_long_text_is_counted_aside():
    text = "word " * MAX_AT_ONCE_CHARACTERS
    assert await TokenCounter(words()).count_aside(text) == MAX_AT_ONCE_CHARACTERS
    assert await TokenCounter(words(bos=True)).count_aside("one", is_prompt=False) == 1


def test_a_file_or_its_folder_is_read(tmp_path):
    words().save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(str(tmp_path)).count("one two") == 2
    assert load_tokenizer(str(tmp_path / "tokenizer.json")).count("one two") == 2


@pytest.mark.parametrize("text", [None, "{", '{"model": 5}'])
def test_what_is_no_tokenizer_is_told(tmp_path, text):
    if text is not None:
        (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(BackendLoadError) as caught:
        load_tokenizer(str(tmp_path))
    assert caught.value.key == "tokenizer"
