"""Check digits of cards, accounts and national numbers, as their issuers publish them. Pure arithmetic on digits.

Every function takes text without separators, in ASCII, and tells whether its check holds; shapes and context are
judged elsewhere. Knows nothing of prompts.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Final

Check = Callable[[str], bool]


def _sum(digits: str, weights: Sequence[int]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def _is_date(year: str, month: str, day: str) -> bool:
    """Tell whether the digits are a day; two-digit years count as leap where any century's is."""
    try:
        date(2000 + int(year) % 100 if len(year) < 4 else int(year), int(month), int(day))
    except ValueError:
        return False
    return True


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = ord(digit) - 48
        if place % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


_VERHOEFF_ROWS: Final = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_VERHOEFF_TURNS: Final = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def verhoeff(digits: str) -> bool:
    """J. Verhoeff, Error Detecting Decimal Codes, 1969: the dihedral group of order ten."""
    state = 0
    for place, digit in enumerate(reversed(digits)):
        state = int(_VERHOEFF_ROWS[state][int(_VERHOEFF_TURNS[place % 8][int(digit)])])
    return state == 0


IBAN_LENGTHS: Final[Mapping[str, int]] = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28,
    "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20,
    "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25,
    "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip
"""Characters of an IBAN by country: the registry of ISO 13616 (SWIFT)."""


def iban(text: str) -> bool:
    """ISO 13616: the country's length, and ISO/IEC 7064 MOD 97-10."""
    if IBAN_LENGTHS.get(text[:2]) != len(text):
        return False
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97 == 1


def iban_within(text: str) -> bool:
    """Tell whether a text begins with an IBAN; what follows it may have been caught along with it."""
    return iban(text[: IBAN_LENGTHS.get(text[:2], 0)])


_CARD_LENGTHS: Final[Sequence[tuple[int, int, frozenset[int]]]] = (
    (400000, 499999, frozenset({13, 16, 19})),
    (510000, 559999, frozenset({16})),
    (222100, 272099, frozenset({16})),
    (340000, 349999, frozenset({15})),
    (370000, 379999, frozenset({15})),
    (300000, 305999, frozenset(range(14, 20))),
    (360000, 369999, frozenset(range(14, 20))),
    (380000, 399999, frozenset(range(14, 20))),
    (350000, 359999, frozenset(range(16, 20))),
    (180000, 180099, frozenset({15})),
    (213100, 213199, frozenset({15})),
    (220000, 220499, frozenset(range(16, 20))),
    (500000, 509999, frozenset(range(12, 20))),
    (560000, 699999, frozenset(range(12, 20))),
    (810000, 829999, frozenset(range(16, 20))),
)
"""Issuer ranges by their first six digits, with the lengths in use: the networks' own publications."""


def card(digits: str) -> bool:
    """Tell whether a payment network issues such numbers and the Luhn digit holds."""
    issuer = int(digits[:6])
    return any(low <= issuer <= high and len(digits) in lengths for low, high, lengths in _CARD_LENGTHS) and luhn(
        digits
    )


def us_ssn(digits: str) -> bool:
    """Social Security Administration: no check digit, but groups that are never issued. 9xx are tax numbers (ITIN)."""
    return digits[:3] not in ("000", "666") and digits[3:5] != "00" and digits[5:] != "0000"


def dated(digits: str) -> bool:
    """Tell whether digits begin with a birth date in any order: numbers of Sweden, Denmark, Korea, Malaysia."""
    short = digits[2:] if len(digits) == 12 and digits[:2] in ("19", "20") else digits
    return _is_date(short[:2], short[2:4], short[4:6]) or _is_date(short[4:6], short[2:4], short[:2])


def us_routing(digits: str) -> bool:
    """ABA: weights 3, 7, 1, and a Federal Reserve district."""
    district = int(digits[:2])
    is_district = district <= 12 or 21 <= district <= 32 or 61 <= district <= 72 or district == 80
    return is_district and _sum(digits, (3, 7, 1) * 3) % 10 == 0


def br_cpf(digits: str) -> bool:
    """Receita Federal: two digits modulo 11; repeated digits are no number."""
    return len(set(digits)) > 1 and all(
        _sum(digits[:n], range(n + 1, 1, -1)) * 10 % 11 % 10 == int(digits[n]) for n in (9, 10)
    )


def br_cnpj(digits: str) -> bool:
    """Receita Federal: two digits modulo 11, weights 2 to 9 from the right."""
    weights = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
    return len(set(digits)) > 1 and all(
        _sum(digits[:n], weights[-n:]) * 10 % 11 % 10 == int(digits[n]) for n in (12, 13)
    )


def nl_bsn(digits: str) -> bool:
    """Rijksdienst voor Identiteitsgegevens: the eleven test, the last digit counting negative."""
    return int(digits) > 0 and (_sum(digits, range(9, 1, -1)) - int(digits[8])) % 11 == 0


def uk_nhs(digits: str) -> bool:
    """NHS Data Dictionary: modulo 11, weights 10 to 2; a remainder that would need 10 is never issued."""
    return len(set(digits)) > 1 and (11 - _sum(digits, range(10, 1, -1)) % 11) % 11 == int(digits[9])


def de_steuer_id(digits: str) -> bool:
    """§ 139b AO, ISO/IEC 7064 MOD 11,10; of the first ten digits exactly one comes twice or three times."""
    counts = sorted(digits[:10].count(digit) for digit in set(digits[:10]))
    if digits[0] == "0" or counts[-1] not in (2, 3) or counts[-2] != 1:
        return False
    product = 10
    for digit in digits[:10]:
        product = ((int(digit) + product - 1) % 10 + 1) * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def pl_pesel(digits: str) -> bool:
    """Ministry of Digital Affairs: a birth date, its century in the month, and weights 1, 3, 7, 9."""
    month = str(int(digits[2:4]) % 20)
    return _is_date(digits[:2], month, digits[4:6]) and _sum(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def fr_nir(text: str) -> bool:
    """INSEE: sex, year, month, department (2A and 2B in Corsica), and 97 less the number modulo 97."""
    plain = text.upper().replace("2A", "19").replace("2B", "18") if text[5:7].upper() in ("2A", "2B") else text
    if not plain.isdigit() or plain[0] not in "12" or not 1 <= int(plain[3:5]) <= 42:
        return False
    return 97 - int(plain[:13]) % 97 == int(plain[13:])


def cn_resident(text: str) -> bool:
    """GB 11643: a birth date, and ISO/IEC 7064 MOD 11-2, where X is ten."""
    if not _is_date(text[6:10], text[10:12], text[12:14]):
        return False
    return "10X98765432"[_sum(text[:17], [2**power % 11 for power in range(17, 0, -1)]) % 11] == text[17].upper()


def in_aadhaar(digits: str) -> bool:
    """UIDAI: Verhoeff; never begins with 0 or 1."""
    return digits[0] not in "01" and verhoeff(digits)


def tr_kimlik(digits: str) -> bool:
    """Turkish identity number: two check digits over the odd and the even places."""
    odd, even = sum(map(int, digits[0:9:2])), sum(map(int, digits[1:8:2]))
    return digits[0] != "0" and (
        (odd * 7 - even) % 10 == int(digits[9]) and sum(map(int, digits[:10])) % 10 == int(digits[10])
    )


def za_id(digits: str) -> bool:
    """South African identity number: a birth date, citizenship 0 to 2, and Luhn."""
    return _is_date(digits[:2], digits[2:4], digits[4:6]) and digits[10] in "012" and luhn(digits)


def kr_rrn(digits: str) -> bool:
    """Resident registration number of Korea, as issued until 2020: a birth date and modulo 11."""
    total = _sum(digits[:12], (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5))
    return _is_date(digits[:2], digits[2:4], digits[4:6]) and (11 - total % 11) % 10 == int(digits[12])


def se_personnummer(digits: str) -> bool:
    """Skatteverket: a birth date (or a coordination number's, its day raised by 60) and Luhn."""
    digits = digits[-10:]
    return _is_date(digits[:2], digits[2:4], str(int(digits[4:6]) % 60)) and luhn(digits)


def no_fodselsnummer(digits: str) -> bool:
    """Skatteetaten: a birth date (D numbers: the day raised by 40) and two digits modulo 11."""
    return (
        _is_date(digits[4:6], digits[2:4], str(int(digits[:2]) % 40))
        and _sum(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11 == 0
        and _sum(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0
    )


def be_national(digits: str) -> bool:
    """Rijksregister: 97 less the number modulo 97; a 2 goes before it for those born from 2000."""
    return any(97 - int(century + digits[:9]) % 97 == int(digits[9:]) for century in ("", "2"))


def cz_rodne_cislo(digits: str) -> bool:
    """Czechia and Slovakia, from 1954: a birth date (women: the month raised by 50) and divisible by 11."""
    month = int(digits[2:4]) % 50
    return _is_date(digits[:2], str(month - 20 if month > 20 else month), digits[4:6]) and int(digits) % 11 == 0


def ro_cnp(digits: str) -> bool:
    """Romania: sex and century, a birth date, and weights 279146358279 modulo 11, where ten is 1."""
    check = _sum(digits[:12], (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    is_born = digits[0] != "0" and _is_date(digits[1:3], digits[3:5], digits[5:7])
    return is_born and (1 if check == 10 else check) == int(digits[12])


def ch_ahv(digits: str) -> bool:
    """Switzerland: 756 and the check digit of EAN-13."""
    return digits.startswith("756") and _sum(digits, (1, 3) * 6 + (1,)) % 10 == 0


def ru_snils(digits: str) -> bool:
    """Russia, individual account number: weights 9 to 1, modulo 101, where 100 is 0."""
    return int(digits[:9]) > 1001998 and _sum(digits[:9], range(9, 0, -1)) % 101 % 100 == int(digits[9:])


def ar_cuit(digits: str) -> bool:
    """Argentina: modulo 11, a known prefix."""
    return digits[:2] in {"20", "23", "24", "27", "30", "33", "34"} and (
        _sum(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0
    )


def cl_rut(text: str) -> bool:
    """Chile: modulo 11, weights 2 to 7 from the right; K is ten."""
    total = _sum(text[-2::-1], (2, 3, 4, 5, 6, 7) * 2)
    return "0K987654321"[total % 11] == text[-1].upper()


def es_dni(text: str) -> bool:
    """Ministerio del Interior: the number modulo 23 picks the letter; X, Y, Z of an NIE are 0, 1, 2."""
    number = str("XYZ".index(text[0])) + text[1:-1] if text[0] in "XYZ" else text[:-1]
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == text[-1]


_FISCALE_ODD: Final[Sequence[int]] = (
    1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23,
)  # fmt: skip


def it_codice_fiscale(text: str) -> bool:
    """Agenzia delle Entrate, D.M. 23/12/1976: odd and even places have values of their own, modulo 26."""
    values = [int(character) if character.isdigit() else ord(character) - 65 for character in text]
    return (sum(_FISCALE_ODD[value] for value in values[0:15:2]) + sum(values[1:14:2])) % 26 == values[15]


def mx_curp(text: str) -> bool:
    """RENAPO: a birth date, and a digit modulo 10 over the signs' places in an alphabet with Ñ."""
    signs = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"
    total = sum(signs.index(sign) * (18 - place) for place, sign in enumerate(text[:17]))
    return _is_date(text[4:6], text[6:8], text[8:10]) and (10 - total % 10) % 10 == int(text[17])


def fi_hetu(text: str) -> bool:
    """Finland: a birth date, and the number modulo 31 picks the sign."""
    sign = "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(text[:6] + text[7:10]) % 31]
    return _is_date(text[4:6], text[2:4], text[:2]) and sign == text[10]


def sg_nric(text: str) -> bool:
    """Singapore: weights 2765432, an offset by the first letter, modulo 11."""
    offset = {"S": 0, "T": 4, "F": 0, "G": 4, "M": 3}[text[0]]
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "M": "KLJNPQRTUWX"}.get(text[0], "XWUTRQPNMLK")
    place = (_sum(text[1:8], (2, 7, 6, 5, 4, 3, 2)) + offset) % 11
    return letters[10 - place if text[0] == "M" else place] == text[8]


def tw_id(text: str) -> bool:
    """Taiwan: the letter stands for two digits; weights 1, 9 to 1, 1, modulo 10."""
    letter = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(text[0]) + 10
    return (letter // 10 + letter % 10 * 9 + _sum(text[1:], (8, 7, 6, 5, 4, 3, 2, 1, 1))) % 10 == 0
