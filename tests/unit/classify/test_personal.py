"""What counts as personal, what does not, and that no text takes long."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.classify.personal import find_personal
from gateway.core.personal import PersonalKind as Kind

PERSONAL = [
    (Kind.EMAIL, "write to jane.doe+x@mail.example.org, please"),
    (Kind.EMAIL, "jane [at] example [dot] org"),
    (Kind.EMAIL, "jane (at) example.org or dot"),
    (Kind.CREDENTIALS, "postgres://admin:hunter2@db:5432/x"),
    (Kind.CREDENTIALS, "key sk-abcdefghijklmnopqrstuvwx"),
    (Kind.CREDENTIALS, "-----BEGIN RSA PRIVATE KEY-----"),
    (Kind.CARD, "my card 4111111111111111 is lost"),
    (Kind.CARD, "4111 1111 1111 1111"),
    (Kind.CARD, "4111-1111-1111-1111."),
    (Kind.CARD, "3782 822463 10005"),
    (Kind.CARD, '{"card": 4111111111111111}'),
    (Kind.IBAN, "to GB82 WEST 1234 5698 7654 32 today"),
    (Kind.IBAN, "DE89370400440532013000"),
    (Kind.IBAN, "gb82west12345698765432"),
    (Kind.NATIONAL_ID, "SSN 078-05-1120"),
    (Kind.NATIONAL_ID, "her social security number: 078051120"),
    (Kind.NATIONAL_ID, "BSN 111222333"),
    (Kind.NATIONAL_ID, "NHS number 943 476 5919"),
    (Kind.NATIONAL_ID, "111.444.777-35"),
    (Kind.NATIONAL_ID, "11144477735"),
    (Kind.NATIONAL_ID, "11.222.333/0001-81"),
    (Kind.NATIONAL_ID, "30.686.957-4"),
    (Kind.NATIONAL_ID, "756.9217.0769.85"),
    (Kind.NATIONAL_ID, "85.07.30-033.28"),
    (Kind.NATIONAL_ID, "112-233-445 95"),
    (Kind.NATIONAL_ID, "2 55 08 14 168 025 38"),
    (Kind.NATIONAL_ID, "86 095 742 719"),
    (Kind.NATIONAL_ID, "12345678Z"),
    (Kind.NATIONAL_ID, "X1234567L"),
    (Kind.NATIONAL_ID, "131052-308T"),
    (Kind.NATIONAL_ID, "811218-9876"),
    (Kind.NATIONAL_ID, "900101-14-5678"),
    (Kind.NATIONAL_ID, "971013-1019902"),
    (Kind.NATIONAL_ID, "710319/2745"),
    (Kind.NATIONAL_ID, "20-05536168-2"),
    (Kind.NATIONAL_ID, "42101-1234567-8"),
    (Kind.NATIONAL_ID, "11010519491231002X"),
    (Kind.NATIONAL_ID, "9999 4105 7058"),
    (Kind.NATIONAL_ID, "RCCMNL83S18D969H"),
    (Kind.NATIONAL_ID, "BOXW310820HNERXN09"),
    (Kind.NATIONAL_ID, "S1234567D"),
    (Kind.NATIONAL_ID, "A123456789"),
    (Kind.NATIONAL_ID, "ABCPE1234F"),
    (Kind.NATIONAL_ID, "AB123456C"),
    (Kind.NATIONAL_ID, "AB 12 34 56 C"),
    (Kind.NATIONAL_ID, "046-454-286"),
    (Kind.ACCOUNT, "my driver's license number is U1234567"),
    (Kind.ACCOUNT, "Passport No: 123456789"),
    (Kind.ACCOUNT, "account number 12345678"),
    (Kind.PHONE, "541-714-1388"),
    (Kind.PHONE, "(579)888-3058 fax"),
    (Kind.PHONE, "1 (555) 234-1234"),
    (Kind.PHONE, "463-612-6138x036"),
    (Kind.PHONE, "001-518-640-0854"),
    (Kind.PHONE, "+41 (0)85 806 98 67"),
    (Kind.PHONE, "+4915112345678"),
    (Kind.PHONE, "03.93.92.16.85"),
    (Kind.PHONE, "06 12 34 56 78"),
    (Kind.PHONE, "0341 8387176"),
    (Kind.PHONE, "(0341) 838 7176"),
    (Kind.PHONE, "541 714 1388"),
    (Kind.PHONE, "07911123456"),
    (Kind.PHONE, "Phone:\n358 0594"),
    (Kind.PHONE, "They don't answer: call 374 780 163"),
    (Kind.PHONE, "781 1704 office"),
    (Kind.IP, "from 41.176.181.243"),
    (Kind.IP, "6e40:4041:c617:e898:c11:40d2:c669:2eb4"),
    (Kind.IP, "2a02:810d:8b40::12f3:9a1"),
    (Kind.DATE_OF_BIRTH, "She was born on 9/20/1968."),
    (Kind.DATE_OF_BIRTH, "date of birth: 3rd of March 1990"),
    (Kind.DATE_OF_BIRTH, "DOB 1990-03-03"),
    (Kind.ADDRESS, "at 742 Evergreen Terrace"),
    (Kind.ADDRESS, "1600 Pennsylvania Ave NW"),
    (Kind.ADDRESS, "31 rue de la Paix"),
    (Kind.ADDRESS, "calle de Alcalá 42"),
    (Kind.ADDRESS, "Lindenstraße 14b"),
    (Kind.ADDRESS, "Apt. 406"),
    (Kind.ADDRESS, "P.O. Box 12"),
    (Kind.ADDRESS, "Springfield, IL 62704"),
    (Kind.ADDRESS, "SW1A 1AA"),
    (Kind.ADDRESS, "my zip code is 94110"),
    (Kind.ADDRESS, "She lives at 120 Nydalen Allé, Oslo"),
    (Kind.NAME, "my name is ada"),
    (Kind.NAME, "Guten Tag, mein Name ist Ada"),
    (Kind.NAME, "Patient name: Ada"),
    (Kind.NAME, "Name: Ada Lovelace"),
    (Kind.NAME, "I'm Ada Lovelace"),
    (Kind.NAME, "I\u2019m Ada Lovelace"),
    (Kind.NAME, "Dear Ada,\nthanks"),
    (Kind.NAME, "Mrs. Lovelace called"),
    (Kind.NAME, "they call me Ada"),
    (Kind.NAME, "Best regards,\nAda Lovelace"),
    (Kind.NAME, "我叫王小明"),
]


def kinds_of(text):
    return {finding.kind for finding in find_personal(text)}


@pytest.mark.parametrize(("kind", "text"), PERSONAL)
def test_personal_data_is_found(kind, text):
    assert kind in kinds_of(text)


@pytest.mark.parametrize(("kind", "text"), PERSONAL)
def test_it_is_found_amid_other_text(kind, text):
    assert kind in kinds_of(f"Please look at this:\n{text}\nand tell me what you think of it.")


ORDINARY = [
    "In 2019 it cost $1,234,567.89, in 2020 12 % more.",
    "ISBN 978-3-16-148410-0 and 9783161484100",
    "pi is 3.14159265358979323846, e is 2.718281828459045",
    "Order 4111111111111112 has not come",  # Luhn does not hold
    "to GB82 WEST 1234 5698 7654 33",  # nor does MOD 97-10
    "version 1.2.3.4 and 10.0.0.1, 192.168.1.17 or 127.0.0.1",
    "1.2.3.4.5 300.400.500.600 v41.176.181.243",
    "550e8400-e29b-41d4-a716-446655440000",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12",
    "01 02 03 04 05 06 07 08 09 10",
    "12 34 56 78 90 12 34 56 78 90",
    "2024-01-31 12:30:59 or 01.02.2003 12:30",
    "call me at 01.02.2003",
    "Unix time 1700000000 and 1700000000000",
    "x1 = y2 + 1234567890 * 3",
    "std::vector<int> a::b::c 12:34:56",
    "@app.route('/x') and npm install left-pad@1.3.0",
    "git@github.com:owner/repo.git",
    "You@here",
    "What's the weather, my name? My name is not important.",
    "Dear Sir,\nDear Madam,\nDear Customer,",
    "I am American and I'm Tired.",
    "During 2019 the Brigade 101 and Spring 2020; Platz 1 and committee 5",
    "A train leaves at 10 and goes 60 miles down the road; Exercise 5 Street smarts",
    "The function name is foo and 5 drive",
    "section 4111.1111.1111.1111",
    "5678-1234567-1-2",
    "ISBN 123456789X, room 05 0607, on 05 06 2003",
    "born in the fifties, he was 70",
    "passport photos cost 12 or 123456",
    "Compute 123456789 * 987654321.",
    "a phone for 1299 and a text of 500 words",
    "TZ1234567A and GB123456A",
    "",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_not_personal(text):
    assert kinds_of(text) == set()


def full_width(text):
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


DISGUISES = {
    "full width": full_width,
    "arabic digits": lambda text: text.translate({48 + n: 0x660 + n for n in range(10)}),
    "devanagari digits": lambda text: text.translate({48 + n: 0x966 + n for n in range(10)}),
    "mathematical digits": lambda text: text.translate({48 + n: 0x1D7CE + n for n in range(10)}),
    "zero width": "\u200b".join,
    "soft hyphens and joiners": "\u00ad\u2060".join,
    "combining marks": "\u0336".join,
    "hangul fillers": "\u3164".join,
    "wide spaces and dashes": lambda text: text.replace(" ", "\u2003").replace("-", "\u2011"),
    "no-break spaces and minus signs": lambda text: text.replace(" ", "\u00a0").replace("-", "\u2212"),
    "json escapes": lambda text: "".join(f"\\u{ord(c):04x}" for c in text),
    "json escapes twice over": lambda text: "".join(f"\\\\u{ord(c):04X}" for c in text),
    "hexadecimal escapes": lambda text: "".join(f"\\x{ord(c):02x}" for c in text),
    "character references": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "hexadecimal references": lambda text: "".join(f"&#x{ord(c):x};" for c in text),
    "percent signs": lambda text: text.replace("@", "%40").replace("-", "%2D").replace(" ", "%20"),
    "escaped line ends": lambda text: f"x\\n{text}\\n",
    "quoted": lambda text: f'{{"a": "{text}"}}',
    "quoted in quotes": lambda text: f'"{{\\"a\\": \\"{text}\\"}}"',
}
PLAIN = {
    Kind.EMAIL: "jane.doe@example.org",
    Kind.CARD: "4111-1111-1111-1111",
    Kind.PHONE: "+49 30 1234567",
    Kind.NATIONAL_ID: "078-05-1120",
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("kind", PLAIN)
def test_a_disguise_hides_nothing(kind, disguise):
    assert kind in kinds_of("see " + DISGUISES[disguise](PLAIN[kind]) + " there")


@pytest.mark.parametrize(
    "text", ["x² + y³ = 10⁹", "½ of ⅓", "İstanbul'da güzel bir gün", "ﬁne", "我喜欢数学", "\ud800 x 1"]
)
def test_other_signs_stay_as_they_are(text):
    assert kinds_of(text) == set()


def test_places_hold_where_a_small_letter_is_longer_than_its_capital():
    assert Kind.NAME in kinds_of("İİİİ Mrs. Lovelace")


@given(st.text())
def test_no_text_is_refused(text):
    list(find_personal(text))


@given(st.text("0123456789+-() ./@:ABab\\n", max_size=200))
def test_no_number_is_refused(text):
    list(find_personal(text))


HOSTILE = [
    "1", "@", " ", "a@", "a@a.", "1 ", "12 34 ", "1234 ", "4111 1111 1111 1112 ", "+1(", "(", "::", "a:", "1.", "x1",
    "AB12 ", "Rue A ", "rue de ", "12 A ", "\\", "\\u0040", "eyJ", "://a:", "Dear ", "I am A ", "born 1", "1-",
    "\uff14",
    "4\u200b", "address at ", "regards\n", "a [at] dot ", "&#", "first 1 st ", "02 ", "(0", "phone number 1234 ",
    "İ",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_time_grows_with_the_length_alone(piece):
    """This takes a tenth of a second or two; anything quadratic would take minutes."""
    text = (piece * (300_000 // len(piece) + 1))[:300_000]
    started = time.process_time()
    for _ in find_personal(text):
        pass
    assert time.process_time() - started < 5
