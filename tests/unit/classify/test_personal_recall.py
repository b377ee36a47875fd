"""How much is found of presidio-research's synthetic sentences, read by path: they are no part of this project.

`POSTERN_PII_DATA` names the file; by default it is looked for beside the checkout. The floors are a little under what
docs/private.md tells. A few sentences of our own stand below for whoever hasn't the file.
"""

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from gateway.classify.personal import find_personal

DATA = Path(os.environ.get("POSTERN_PII_DATA", "../shared/data/presidio_synth_pii.jsonl.gz"))
FLOORS = {
    "CREDIT_CARD": 0.98,
    "EMAIL_ADDRESS": 1,
    "IBAN_CODE": 1,
    "IP_ADDRESS": 1,
    "PHONE_NUMBER": 0.97,
    "US_SSN": 1,
    "US_DRIVER_LICENSE": 0.8,
    "STREET_ADDRESS": 0.6,
    "PERSON": 0.14,
}
IDENTIFIERS = {*FLOORS, "ZIP_CODE"}
OWN = [
    ("Please charge 5555 5555 5555 4444 for both nights.", True),
    ("Our new tenant, Ms. Aalto, moved into Hämeentie 12.", True),
    ("Reach me on 030 901820 or at mira@example.net.", True),
    ("Refund it to NL91 ABNA 0417 1643 00.", True),
    ("Which of the two loans has the lower monthly rate, at 3.25 % over 30 years?", False),
    ("Sort 17, 4, 99 and 23 in place and explain each of the 6 steps.", False),
    ("Who won the 1998 final, and by how much?", False),
]


def is_personal(text):
    return any(True for _ in find_personal(text))


@pytest.mark.parametrize(("text", "expected"), OWN)
def test_sentences_of_our_own(text, expected):
    assert is_personal(text) is expected


@pytest.fixture(scope="module")
def rows():
    if not DATA.exists():
        pytest.skip(f"no {DATA}: set POSTERN_PII_DATA to its path")
    with gzip.open(DATA, "rt") as lines:
        return [json.loads(line) for line in lines]


def test_recall_stays_above_its_floors(rows):
    total, found = Counter(), Counter()
    for row in rows:
        findings = list(find_personal(row["text"]))
        for span in row["spans"]:
            total[span["type"]] += 1
            found[span["type"]] += any(one.start < span["end"] and one.end > span["start"] for one in findings)
    recall = {kind: found[kind] / total[kind] for kind in FLOORS}
    assert {kind: share for kind, share in recall.items() if share < FLOORS[kind]} == {}


def test_sentences_without_an_identifier_are_ordinary(rows):
    rows = [row for row in rows if not IDENTIFIERS & {span["type"] for span in row["spans"]}]
    # Birth dates are personal here, and a DATE_TIME there.
    wrong = [row["text"] for row in rows if is_personal(row["text"]) and "birth" not in row["text"]]
    assert len(rows) > 300
    assert wrong == []
