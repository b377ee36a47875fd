"""Changes a prompt in ways that leave what it asks as it was. Pure, seeded. Knows nothing of routers or scores.

The hand-written sets (paraphrases, translations, additions) are ours, in `probes/`; two of the gadgets are suffixes
published by Zou et al. (arXiv 2307.15043), the others are of the kind that Shafran et al. found to fool routers
("Rerouting LLM Routers", arXiv 2501.01818): gibberish, jargon and marks that say nothing.
"""

import random
from collections.abc import Callable
from pathlib import Path

import msgspec

PROBES = Path(__file__).parent / "probes"
# One slip in about 25 characters: what people leave in a chat box in a hurry.
CHARS_A_TYPO = 25
NEIGHBOURS = {"a": "s", "e": "r", "i": "o", "o": "p", "n": "m", "t": "y", "r": "t", "s": "d", "l": "k", "u": "y"}

Change = Callable[[str], str]


class Paraphrase(msgspec.Struct, frozen=True):
    """One prompt in two wordings."""

    prompt: str
    paraphrase: str


class Additions(msgspec.Struct, frozen=True):
    """What is put before or after prompts."""

    instructions: tuple[str, ...]
    gadgets: tuple[str, ...]
    padding: tuple[str, ...]


class Probes(msgspec.Struct, frozen=True):
    """The hand-written sets; each translation maps a language's code to one prompt in it, `en` among them."""

    paraphrases: tuple[Paraphrase, ...]
    translations: tuple[dict[str, str], ...]
    additions: Additions


def load_probes(folder: Path = PROBES) -> Probes:
    """Read the sets that ship."""
    lines = (folder / "paraphrases.jsonl").read_bytes().splitlines()
    translations = (folder / "translations.jsonl").read_bytes().splitlines()
    return Probes(
        tuple(msgspec.json.decode(line, type=Paraphrase) for line in lines),
        tuple(msgspec.json.decode(line, type=dict[str, str]) for line in translations),
        msgspec.json.decode((folder / "additions.json").read_bytes(), type=Additions),
    )


def add_typos(text: str, rng: random.Random) -> str:
    """Slip once in CHARS_A_TYPO characters, at least once: two letters swapped, one lost, doubled or mistaken."""
    letters = list(text)
    for _ in range(max(1, len(text) // CHARS_A_TYPO)):
        spots = [place for place in range(1, len(letters) - 1) if letters[place].isalpha()]
        if not spots:
            break
        _slip(letters, rng.choice(spots), rng.randrange(4))
    return "".join(letters)


def _slip(letters: list[str], place: int, kind: int) -> None:
    letter = letters[place]
    if kind == 0:
        letters[place], letters[place + 1] = letters[place + 1], letter
    elif kind == 1:
        del letters[place]
    elif kind == 2:
        letters.insert(place, letter)
    else:
        letters[place] = NEIGHBOURS.get(letter.lower(), "e")


CASES: tuple[Change, ...] = (str.lower, str.upper, str.title)
SPACES: tuple[Change, ...] = (
    lambda text: text.replace(" ", "  "),
    lambda text: f"\n\n  {text}  \n\n",
    lambda text: text.replace(" ", "\t"),
    lambda text: text.replace(" ", "\u00a0"),
)


def padded(padding: tuple[str, ...]) -> list[Change]:
    """Put friendly talk before, after and around a prompt: some 350 characters, then some 1,400."""
    talk = "".join(padding)
    return [
        lambda text: f"{talk}\n\n{text}",
        lambda text: f"{text}\n\n{talk}",
        lambda text: f"{talk * 4}\n\n{text}",
        lambda text: f"{text}\n\n{talk * 4}",
        lambda text: f"{talk * 2}\n\n{text}\n\n{talk * 2}",
    ]


def before(additions: tuple[str, ...]) -> list[Change]:
    """Put each addition before a prompt."""
    return [lambda text, one=one: f"{one} {text}" for one in additions]  # type: ignore[misc]  # the default binds


def around(additions: tuple[str, ...]) -> list[Change]:
    """Put each addition before a prompt on a line of its own, then after it."""
    first = [lambda text, one=one: f"{one}\n{text}" for one in additions]
    return [*first, *(lambda text, one=one: f"{text}\n{one}" for one in additions)]
