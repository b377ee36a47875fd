"""Guesses a prompt's language from its script and its commonest words, for tables by language. No more is promised.

Chinese, Japanese, Korean, Russian, Greek, Arabic, Hebrew, Hindi and Thai go by script; English, German, French,
Spanish, Portuguese, Italian and Dutch by stop words, of which there must be some. All else is `other`: formulas, code,
two words. Ukrainian passes for Russian, Urdu for Arabic.
"""

import re
from collections import Counter

OTHER = "other"
SCRIPTS = (
    ("ja", "[\u3040-\u30ff]"),  # before Chinese: Japanese holds its characters too
    ("ko", "[\uac00-\ud7a3]"),
    ("zh", "[\u4e00-\u9fff]"),
    ("ru", "[\u0400-\u04ff]"),
    ("el", "[\u0370-\u03ff]"),
    ("ar", "[\u0600-\u06ff]"),
    ("he", "[\u0590-\u05ff]"),
    ("hi", "[\u0900-\u097f]"),
    ("th", "[\u0e00-\u0e7f]"),
)
# A script decides where this share of the letters is in it: a formula's Greek in an English question does not.
SCRIPT_SHARE = 0.2
MIN_STOP_WORDS = 2
STOP_WORDS = {
    "en": "the of and to is are was what which how in for that with on by from this it be as an not who why when does",
    "de": "der die das und ist nicht ein eine einen mit für auf von zu wie was wer warum dem den des im sich auch wenn",
    "fr": "le la les des et est une un dans pour que qui sur avec du au ce cette pas comment pourquoi quel quelle sont",
    "es": "el la los las es una un en para que con por del cómo qué cuál se su no como quién más este esta donde",
    "pt": "os as é uma um em para que com por do da dos das no na como qual quem não se mais este esta quanto",
    "it": "il lo la gli le è una un in per che con di del della come quale chi non si più questo questa sono perché",
    "nl": "de het een en is van in dat op te met voor niet hoe wat wie waarom zijn aan er als ook maar deze welke",
}
_WORDS = re.compile(r"[^\W\d_]+")


def detect(text: str) -> str:
    """Return a language's ISO 639-1 code, or OTHER. Reads the first 2,000 characters."""
    text = text[:2000].lower()
    letters = sum(map(str.isalpha, text))
    for code, script in SCRIPTS:
        if letters and len(re.findall(script, text)) >= SCRIPT_SHARE * letters:
            return code
    words = Counter(_WORDS.findall(text))
    found = {code: sum(words[word] for word in stops.split()) for code, stops in STOP_WORDS.items()}
    best, second = sorted(found, key=lambda code: -found[code])[:2]
    return best if found[best] >= MIN_STOP_WORDS and found[best] > found[second] else OTHER
