"""Numbers that are someone's: cards, accounts, national numbers, phones. Shapes first, then their check digits.

Owns the shapes. Each pattern begins with a digit, so that the search skips letters at the speed of C, and repeats
nothing that repeats: the time grows with the text's length alone. Knows nothing of requests.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import Final

from gateway.classify import check_digits as check
from gateway.classify import personal_words as words
from gateway.core.personal import PersonalKind

Found = tuple[PersonalKind, int, int]
"""A kind, where it begins and where it ends."""

MARGIN_CHARS: Final = 12
"""How much after a chain of digits is looked at: letters that belong to the number, or deny it."""

NEAR_CHARS: Final = 48
"""How far before a number its word may stand."""

# Not after a letter, a digit or a decimal point; the character that the search begins with is part of the look back.
_ALONE: Final = r"(?<![\w$€£].)(?<![0-9][.,/:=^*-].)"
_END: Final = r"(?![0-9A-Za-z_]|[.,:^*][0-9])"

_BARE: Final = re.compile(rf"[0-9]{_ALONE}[0-9]{{8,18}}[Xx]?{_END}", re.DOTALL)

_NATIONAL: Final[Mapping[int, Sequence[check.Check]]] = {
    11: (check.br_cpf, check.de_steuer_id, check.pl_pesel, check.tr_kimlik, check.no_fodselsnummer, check.ar_cuit),
    12: (check.in_aadhaar, check.se_personnummer),
    13: (check.za_id, check.kr_rrn, check.ro_cnp, check.ch_ahv),
    14: (check.br_cnpj,),
    15: (check.fr_nir,),
    18: (check.cn_resident,),
}
"""Bare runs of digits that show by themselves what they are: a date inside, two check digits, or great length."""

_NATIONAL_NEAR: Final[Mapping[int, Sequence[check.Check]]] = {
    9: (check.nl_bsn, check.luhn, check.us_routing),
    10: (check.uk_nhs, check.se_personnummer, check.cz_rodne_cislo),
    11: (check.be_national, check.ru_snils),
}
"""One in ten runs of nine or ten digits passes such a check: they count beside a word for them only."""

_SHAPES: Final = re.compile(
    rf"""[0-9]{_ALONE}(?=[0-9A-Z .+/-]{{7}})(?:
      (?P<card>[0-9]{{3}}(?P<c>[ -])[0-9]{{4}}(?P=c)[0-9]{{4}}
        (?:(?P=c)[0-9]{{4}}(?:(?P=c)[0-9]{{1,3}})?|(?P=c)[0-9]{{1,7}})?)
    | (?P<amex>(?<=3)[0-9]{{3}}(?P<a>[ -])[0-9]{{6}}(?P=a)[0-9]{{4,5}})
    | (?P<ssn>[0-9]{{2}}(?P<s>[ -])[0-9]{{2}}(?P=s)[0-9]{{4}})
    | (?P<snils>[0-9]{{2}}-[0-9]{{3}}-[0-9]{{3}}[ -][0-9]{{2}})
    | (?P<sin>[0-9]{{2}}-[0-9]{{3}}-[0-9]{{3}})
    | (?P<cpf>[0-9]{{2}}\.[0-9]{{3}}\.[0-9]{{3}}-[0-9]{{2}})
    | (?P<cnpj>[0-9]\.[0-9]{{3}}\.[0-9]{{3}}/[0-9]{{4}}-[0-9]{{2}})
    | (?P<rut>[0-9]?\.[0-9]{{3}}\.[0-9]{{3}}-[0-9kK])
    | (?P<ahv>[0-9]{{2}}\.[0-9]{{4}}\.[0-9]{{4}}\.[0-9]{{2}})
    | (?P<be>[0-9]\.[0-9]{{2}}\.[0-9]{{2}}-[0-9]{{3}}[.-][0-9]{{2}})
    | (?P<nir>(?<=[12])\ ?[0-9]{{2}}\ [0-9]{{2}}\ [0-9][0-9ABab]\ [0-9]{{3}}\ [0-9]{{3}}\ ?[0-9]{{2}})
    | (?P<steuer>[0-9]\ [0-9]{{3}}\ [0-9]{{3}}\ [0-9]{{3}})
    | (?P<dni>[0-9]{{7}}[ -]?[A-Z])
    | (?P<dated>[0-9]{{5}}(?:[0-9]{{2}}[-+]|[-+]|-[0-9]{{2}}-)[0-9]{{4}})
    | (?P<hetu>[0-9]{{5}}[-+A][0-9]{{3}}[0-9A-Y])
    | (?P<rrn>[0-9]{{5}}-[1-8][0-9]{{6}})
    | (?P<rodne>[0-9]{{5}}/[0-9]{{4}})
    | (?P<cuit>[0-9]-[0-9]{{8}}-[0-9])
    | (?P<nino>(?<=[A-Z]{{2}}\ .)[0-9]\ [0-9]{{2}}\ [0-9]{{2}}\ [A-D])
    | (?P<cnic>[0-9]{{4}}-[0-9]{{7}}-[0-9])
    ){_END}(?!-[0-9])""",
    re.DOTALL | re.VERBOSE,
)

_SHAPE_CHECKS: Final[Mapping[str, check.Check]] = {
    "sin": check.luhn,
    "cpf": check.br_cpf,
    "cnpj": check.br_cnpj,
    "rut": check.cl_rut,
    "ahv": check.ch_ahv,
    "be": check.be_national,
    "snils": check.ru_snils,
    "nir": check.fr_nir,
    "steuer": check.de_steuer_id,
    "dni": check.es_dni,
    "dated": check.dated,
    "rrn": check.dated,
    "rodne": check.cz_rodne_cislo,
    "cuit": check.ar_cuit,
    "ssn": check.us_ssn,
    "nino": lambda _: True,
    "cnic": lambda _: True,
}

# A letter right before the digit; where the token begins is found from there.
_MIXED: Final = re.compile(
    r"[0-9](?<=[A-Za-z].)(?:[0-9][A-Za-z0-9 ]{3}[A-Za-z0-9 -]{2}|[0-9]{3}[A-Z]\b|[A-Z0-9]? [0-9][A-Z]{2}\b)", re.DOTALL
)
_MIXED_CHARS: Final = 48
_MIXED_CHECKED: Final[Sequence[tuple[PersonalKind, re.Pattern[str], check.Check]]] = (
    (PersonalKind.IBAN, re.compile(r"[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,30}"), check.iban_within),
    (
        PersonalKind.NATIONAL_ID,
        re.compile(r"[A-Z]{6}[0-9]{2}[A-Z][0-9]{2}[A-Z][0-9]{3}[A-Z]\b"),
        check.it_codice_fiscale,
    ),
    (PersonalKind.NATIONAL_ID, re.compile(r"[A-Z]{4}[0-9]{6}[HMX][A-Z]{5}[A-Z0-9][0-9]\b"), check.mx_curp),
    (PersonalKind.NATIONAL_ID, re.compile(r"[XYZ]-?[0-9]{7}-?[A-Z]\b"), check.es_dni),
    (PersonalKind.NATIONAL_ID, re.compile(r"[STFGM][0-9]{7}[A-Z]\b"), check.sg_nric),
    (PersonalKind.NATIONAL_ID, re.compile(r"[A-Z][12][0-9]{8}\b"), check.tw_id),
)
"""Their check holds whatever the case they were typed in."""
_MIXED_SHAPES: Final[Sequence[tuple[PersonalKind, re.Pattern[str]]]] = (
    (PersonalKind.NATIONAL_ID, re.compile(r"[A-Z]{3}[ABCFGHLJPT][A-Z][0-9]{4}[A-Z]\b")),  # India's PAN
    (  # the United Kingdom's national insurance number
        PersonalKind.NATIONAL_ID,
        re.compile(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]\b"),
    ),
    (PersonalKind.ADDRESS, re.compile(r"[A-PR-UWYZ][A-HK-Y]?[0-9][0-9A-HJKPSTUW]? [0-9][ABD-HJLNP-UW-Z]{2}\b")),
)
"""Without a check: in capitals only. The last is the United Kingdom's postcode."""

_PHONE: Final = re.compile(
    rf"""[0-9(+](?<![\w$€£].)(?<![\w][.,/:=^*+-].)(?<!\)\+)(?:
      (?<=\+)\(?[1-9][0-9 ().\-/]{{6,20}}[0-9]
    | (?<=0)0[1-9][0-9]{{0,2}}[ .-][0-9 ().-]{{6,16}}[0-9]
    | (?<=[0-9])(?:[ .-]?\([0-9]{{3}}\)|[ .-][0-9]{{3}}[ .-]|[0-9]{{2}}[.-])[ ]?[0-9]{{3}}[ .-][0-9]{{4}}
    | (?<=\()[0-9]{{3}}\)[ -]?[0-9]{{3}}[ .-][0-9]{{4}}
    | (?<=\()0[0-9]{{1,4}}\)[ ]?[0-9]{{2,8}}(?:[ .-][0-9]{{2,5}}){{0,3}}
    | (?<=0)[1-9](?:\.[0-9]{{2}}){{4}}
    | (?<=0)[1-9][0-9]{{8,9}}
    | (?<![0-9]\ .)(?:
          (?<=[2-9])[0-9]{{2}}[ ][2-9][0-9]{{2}}[ ][0-9]{{4}}
        | (?<=0)[1-9][0-9]{{0,3}}[ /-][0-9]{{2,8}}(?:[ .-][0-9]{{2,5}}){{0,4}}
      )(?!\ [0-9])
    )(?:\ ?(?:x|ext\.?)\ ?[0-9]{{1,5}})?{_END}(?![.-][0-9])""",
    re.DOTALL | re.VERBOSE,
)
_DATE: Final = re.compile(r"[0-9]{2}[-/. ][0-9]{2}[-/. ](?:19|20)[0-9]{2}\b")

_LOOSE: Final = re.compile(rf"[0-9(](?<![a-z_0-9$€£].)(?<![0-9][.,:=^*-].)[0-9 ().-]{{3,17}}[0-9]{_END}", re.DOTALL)
_LABELLED: Final = re.compile(
    r"(?:number|num|no|nr|nummer|número|numéro|numero|n[º°]|#|id|code)\.?\)?\s*(?:is|was|:|=|-|#|ist|es|est|è)?\s*$",
    re.IGNORECASE,
)
_AFTER: Final = re.compile(rf"[ -]{{0,2}}\(?(?:{'|'.join(words.PHONE_AFTER.split())})\b", re.IGNORECASE)


def _near(listed: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, listed.split()))})\b", re.IGNORECASE)


_NEAR_PHONE: Final = _near(words.PHONE)
_NEAR_NATIONAL: Final = _near(words.NATIONAL)
_NEAR_IDENTIFIED: Final = _near(words.IDENTIFIED)


def find_numbers(text: str, start: int, end: int) -> Iterator[Found]:
    """Yield the numbers within a chain of digits and signs that show by themselves whose they are."""
    end += MARGIN_CHARS
    for match in _BARE.finditer(text, start, end):
        kind = _kind_of_run(match[0])
        if kind is not None:
            yield kind, *match.span()
    for match in _SHAPES.finditer(text, start, end):
        kind = _kind_of_shape(match[0], match.lastgroup or "")
        if kind is not None:
            yield kind, *match.span()
    for match in _PHONE.finditer(text, start, end):
        if 9 <= sum(map(str.isdigit, match[0])) <= 15 and not _DATE.match(match[0]):
            yield PersonalKind.PHONE, *match.span()


def find_mixed_numbers(text: str) -> Iterator[Found]:
    """Yield numbers that begin with letters and show by themselves whose they are."""
    for match in _MIXED.finditer(text):
        yield from _find_mixed(text, match.start())


def _kind_of_run(run: str) -> PersonalKind | None:
    if run.startswith(("978", "979")) and len(run) == 13:  # ISBN
        return None
    if run.isdigit() and len(run) >= 12 and check.card(run):
        return PersonalKind.CARD
    if run.isdigit() or len(run) == 18:
        checks = _NATIONAL.get(len(run), ())
        return PersonalKind.NATIONAL_ID if any(holds(run) for holds in checks) else None
    return None


def _kind_of_shape(found: str, shape: str) -> PersonalKind | None:
    if shape == "hetu":
        return PersonalKind.NATIONAL_ID if check.fi_hetu(found) else None
    plain = re.sub("[^0-9A-Za-z]", "", found)
    if shape in {"card", "amex"}:
        if check.card(plain):
            return PersonalKind.CARD
        return PersonalKind.NATIONAL_ID if len(plain) == 12 and check.in_aadhaar(plain) else None
    return PersonalKind.NATIONAL_ID if _SHAPE_CHECKS[shape](plain) else None


def _find_mixed(text: str, place: int) -> Iterator[Found]:
    start = place - 1
    while start > 0 and place - start < 6 and text[start - 1].isalpha():
        start -= 1
    if start > 0 and text[start - 1].isalnum():
        return
    token = text[start : start + _MIXED_CHARS]
    upper = token.upper()
    for kind, shape, holds in _MIXED_CHECKED:
        match = shape.match(upper)
        if match and holds(re.sub("[ -]", "", match[0])):
            yield kind, start, start + match.end()
    for kind, shape in _MIXED_SHAPES:
        match = shape.match(token)
        if match:
            yield kind, start, start + match.end()


def find_named_numbers(text: str) -> Iterator[Found]:
    """Yield numbers that are someone's by the words beside them."""
    for match in _LOOSE.finditer(text):
        digits = re.sub("[ ().-]", "", match[0])
        before = text[max(0, match.start() - NEAR_CHARS) : match.start()].rstrip(ascii_uppercase)
        if _is_national(digits, before):
            yield PersonalKind.NATIONAL_ID, *match.span()
        elif len(digits) >= 5 and _LABELLED.search(before) and _NEAR_IDENTIFIED.search(before):
            yield PersonalKind.ACCOUNT, *match.span()
        elif 7 <= len(digits) <= 13 and _is_called(match, before):
            yield PersonalKind.PHONE, *match.span()


def _is_national(digits: str, before: str) -> bool:
    checks = _NATIONAL_NEAR.get(len(digits), ())
    if not any(holds(digits) for holds in checks) and not (len(digits) == 9 and check.us_ssn(digits)):
        return False
    return _NEAR_NATIONAL.search(before) is not None


def _is_called(match: re.Match[str], before: str) -> bool:
    if _DATE.match(match[0]):
        return False
    return _NEAR_PHONE.search(before) is not None or _AFTER.match(match.string, match.end()) is not None
