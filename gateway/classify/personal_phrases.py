"""Names, streets and birth dates: personal by the words around them. Owns those phrases; knows nothing of requests."""

import re
from collections.abc import Iterator
from typing import Final

from gateway.classify import personal_words as words
from gateway.classify.personal_numbers import Found
from gateway.classify.plain_text import Page, word_set
from gateway.core.personal import PersonalKind


def _any_of(listed: str, *more: str) -> str:
    forms = {form for word in listed.split() for form in (word.title(), word.upper())} | {*more}
    return "|".join(sorted(map(re.escape, forms), key=len, reverse=True))


_WORD: Final = r"[^\W\d_a-z][\w'.-]{0,30}"
_NAME: Final = r"[^\W\d_a-z][\w'-]{1,30}"
_SMALL: Final = rf"(?:{'|'.join(map(re.escape, words.OF_STREETS.split()))})"
_OPEN: Final = r"(?<![\w$€£].)(?<![0-9][.,:].)"

_BEFORE: Final = rf"(?:{_any_of(words.STREETS_BEFORE, *words.STREETS_BEFORE_SMALL.split())})"

_STREET: Final = re.compile(
    rf"[0-9]{_OPEN}[0-9]{{0,5}}[A-Za-z]?,?\s(?:(?:{_WORD}|[0-9]{{1,3}}(?:st|nd|rd|th))\s){{1,4}}"
    rf"(?:{_any_of(words.STREETS, 'street', 'st.', 'avenue', 'road', 'blvd', 'lane')})\b",
    re.DOTALL,
)
_STREET_BEFORE: Final = re.compile(
    rf"\b{_BEFORE}\.?\s"
    rf"(?:(?:{_SMALL}\s|[ld]'|{_WORD},?\s)){{1,6}}(?:n[º°o]?\.?\s?)?[0-9]{{1,5}}\b(?!\s?[%€$°])"
)
_NUMBER_BEFORE: Final = re.compile(
    rf"[0-9]{_OPEN}[0-9]{{0,4}}(?:\s?(?:bis|ter))?,?\s{_BEFORE}"
    rf"\.?\s(?:{_SMALL}\s|[ld]'){{0,3}}{_WORD}",
    re.DOTALL,
)
_HOUSE: Final = re.compile(r"[0-9]{1,4}[a-zA-Z]?\b(?!\s?[%€$°]|[.,:][0-9])")
_UNIT: Final = re.compile(r"\b(?:apt|apartment|suite|ste|flat)\.?\s#?[0-9]{1,5}[a-z]?\b", re.IGNORECASE)
_BOX: Final = re.compile(
    r"(?:(?<=p\.o\.\s)|(?<=p\.\so\.\s)|(?<=p\.o\.)|(?<=po\s)|(?<=post\s))box\s[0-9]|\b[dfa]po\s(?:ap|ae|aa)\s[0-9]{5}",
    re.IGNORECASE,
)
_STATE: Final = re.compile(rf",\s{{0,3}}(?:{'|'.join(words.STATES.split())})\s{{1,2}}[0-9]{{5}}(?:-[0-9]{{4}})?\b")
_POSTAL: Final = re.compile(
    r"\b(?:zip(?:\s?code)?|post(?:al)?\s?code|plz|cep|code postal|código postal)(?:\s(?:is|was))?[:\s#=]{1,3}"
    r"[A-Z]{0,2}[0-9][0-9A-Z -]{1,8}",
    re.IGNORECASE,
)
_AT: Final = re.compile(
    r"\b(?i:live[sd]?|living|resid(?:es|ing)|address(?:es)?|located|deliver(?:ed|y)?|ship(?:ped)?|sent|return|meet"
    r"|offices?)\b[^\n.!?0-9]{0,24}[\s:][0-9]{1,6},?\s"
    rf"(?:{_SMALL}\s){{0,3}}(?:{_WORD}\s?){{1,4}}(?:,|\n|\s?[0-9])"
)

_MONTH: Final = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}"
_BIRTH: Final = re.compile(
    r"\b(?:date of birth|birth\s?da(?:te|y)|born|dob|geburtsdatum|geboren|née?|naissance|nacimiento|nacid[oa]|nascita)"
    r"\b[^\n0-9]{0,24}\n?"
    r"(?:[0-9]{1,4}[/.-][0-9]{1,2}[/.-][0-9]{2,4}"
    rf"|[0-9]{{1,2}}(?:st|nd|rd|th|\.)?\s(?:of\s)?{_MONTH},?\s[0-9]{{4}}"
    rf"|{_MONTH}\s[0-9]{{1,2}}(?:st|nd|rd|th)?,?\s[0-9]{{4}})",
    re.IGNORECASE,
)

_MY_NAME: Final = re.compile(
    r"\b(?i:my name(?:'s| is)|me llamo|mi nombre es|je m'appelle|ich heiße|mein name ist|mi chiamo|meu nome é|"
    rf"mijn naam is|jag heter|меня зовут)\s+(?!(?i:{'|'.join(words.NO_NAMES.split())})\b)[^\W\d_]{{2,40}}"
)
_NAMED: Final = re.compile(
    r"\b(?:(?i:first|last|full|maiden|family|legal|his|her|your|patient|customer|client|employee|holder|partner's)"
    rf"\s(?i:name)(?:'s|\s(?:is|was|on [a-z ]{{1,20}})|[:?])[^\n\w]{{0,6}}(?:[A-Z][a-z]{{1,9}}: )?{_NAME}"
    r"|(?:Name|NAME|Surname|Nombre|Nom|Nome|Naam|Nachname|Vorname|Apellidos?|Cognome)\s?[:=]\s{1,8}"
    rf"{_NAME}\s{_NAME})"
)
_CALLED: Final = re.compile(rf"\b(?:calls?|called|named)\s(?:me|him|her)\s{_NAME}")
_I_AM: Final = re.compile(rf"I(?:'m| am)\s(?<!\wI'm\s)(?<!\wI am\s){_NAME}[ ]{_NAME}")
_DEAR: Final = re.compile(rf"Dear\s(?!(?:{'|'.join(words.NO_ADDRESSEES.split())})\b){_NAME},")
_TITLE: Final = re.compile(rf"\b(?:{_any_of(words.TITLES, 'herr', 'frau')})\.?\s{_NAME}")
_SIGNED: Final = re.compile(rf"\b(?i:regards|sincerely|grüßen|grüße|cordialement|saludos)\s*,?\s*\n\s*{_NAME}\s{_NAME}")
_CJK_NAME: Final = re.compile(r"(?:我叫|我的名字是|姓名[:\s]{1,3}|名前は|私は)[\u4e00-\u9fff\u3040-\u30ff]{2,4}")
_MY_NAME_WORDS: Final = word_set("my me mi je ich mein meu mijn jag меня")
_NAMED_WORDS: Final = word_set(
    "first last full maiden family legal his her your patient customer client employee holder partner name surname "
    "nombre nom nome naam nachname vorname apellido apellidos cognome"
)
_CALLED_WORDS: Final = word_set("call calls called named")
_SIGNED_WORDS: Final = word_set("regards sincerely grüßen grüße cordialement saludos")
_TITLE_WORDS: Final = word_set(words.TITLES)
_BIRTH_WORDS: Final = word_set(words.BIRTH)
_NAME_WORDS: Final = word_set("name llamo nombre appelle heiße chiamo nome naam heter зовут")
_BEFORE_WORDS: Final = word_set(words.STREETS_BEFORE)
_STREET_WORDS: Final = word_set(f"{words.STREETS} {words.STREETS_BEFORE}")
_UNIT_WORDS: Final = word_set("apt apartment suite ste flat")
_BOX_WORDS: Final = word_set("box dpo fpo apo")
_POSTAL_WORDS: Final = word_set("zip zipcode post postal postcode plz cep code código")
_AT_WORDS: Final = word_set(
    "live lives lived living resides residing address addresses located deliver delivered delivery ship shipped sent "
    "return meet office offices"
)

_ENDINGS: Final = tuple(words.STREET_ENDINGS.split())
_LAST_LETTERS: Final = frozenset(ending[-2:] for ending in _ENDINGS)


def _at_words(pattern: re.Pattern[str], kind: PersonalKind, page: Page, listed: frozenset[bytes]) -> Iterator[Found]:
    """Try a pattern where one of its first words stands: looking for words is many times as fast as for patterns."""
    for word in page.words & listed:
        text = word.decode()
        place = page.lower.find(text)
        while place >= 0:
            match = pattern.match(page.text, place)
            if match:
                yield kind, *match.span()
            place = page.lower.find(text, place + 1)


def find_phrases(page: Page) -> Iterator[Found]:
    """Yield what the words around it make personal."""
    yield from _find_names(page)
    if page.digit_count:
        yield from _find_addresses(page)
        yield from _at_words(_BIRTH, PersonalKind.DATE_OF_BIRTH, page, _BIRTH_WORDS)


def _find_names(page: Page) -> Iterator[Found]:
    if not page.words.isdisjoint(_NAME_WORDS):
        yield from _at_words(_MY_NAME, PersonalKind.NAME, page, _MY_NAME_WORDS)
        yield from _at_words(_NAMED, PersonalKind.NAME, page, _NAMED_WORDS)
    yield from _at_words(_TITLE, PersonalKind.NAME, page, _TITLE_WORDS)
    yield from _at_words(_CALLED, PersonalKind.NAME, page, _CALLED_WORDS)
    yield from _at_words(_SIGNED, PersonalKind.NAME, page, _SIGNED_WORDS)
    for pattern in (_I_AM, _DEAR) if page.text.isascii() else (_I_AM, _DEAR, _CJK_NAME):
        for match in pattern.finditer(page.text):
            yield PersonalKind.NAME, *match.span()


def _find_addresses(page: Page) -> Iterator[Found]:
    if not page.words.isdisjoint(_STREET_WORDS):
        yield from _at_words(_STREET_BEFORE, PersonalKind.ADDRESS, page, _BEFORE_WORDS)
        for pattern in (_STREET, _NUMBER_BEFORE):
            for match in pattern.finditer(page.text):
                yield PersonalKind.ADDRESS, *match.span()
    yield from _at_words(_UNIT, PersonalKind.ADDRESS, page, _UNIT_WORDS)
    yield from _at_words(_BOX, PersonalKind.ADDRESS, page, _BOX_WORDS)
    yield from _at_words(_POSTAL, PersonalKind.ADDRESS, page, _POSTAL_WORDS)
    yield from _at_words(_AT, PersonalKind.ADDRESS, page, _AT_WORDS)
    if page.digit_count >= 5:
        for match in _STATE.finditer(page.text):
            yield PersonalKind.ADDRESS, *match.span()


def find_street(page: Page, place: int) -> Iterator[Found]:
    """Yield the street that ends with the number at a place: one word, as in German, Dutch, Nordic addresses."""
    if page.lower[place - 3 : place - 1] not in _LAST_LETTERS:
        return
    word = page.text[max(0, place - 40) : place].split()[-1]
    ending = next((ending for ending in _ENDINGS if word.lower().endswith(ending)), None)
    match = _HOUSE.match(page.text, place)
    is_street = ending is not None and word[0].isupper() and len(word) >= len(ending) + 3
    if match and is_street and word.lower() not in words.NO_STREETS.split():
        yield PersonalKind.ADDRESS, place - 1 - len(word), match.end()
