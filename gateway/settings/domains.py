"""The words for subjects that an operator may write under `domains`, and the domains that routers tell."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.core.judgement import DOMAINS

ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "accounting": "business",
        "bio": "biology",
        "chem": "chemistry",
        "coding": "code",
        "conversation": "chat",
        "cs": "computer science",
        "econ": "economics",
        "economy": "economics",
        "finance": "business",
        "health care": "health",
        "healthcare": "health",
        "legal": "law",
        "management": "business",
        "marketing": "business",
        "mathematics": "math",
        "maths": "math",
        "medical": "health",
        "medicine": "health",
        "creative writing": "writing",
        "programming": "code",
        "psych": "psychology",
        "small talk": "chat",
        "software": "code",
        "software engineering": "code",
        "translate": "translation",
    }
)


def find_domain(word: str) -> str | None:
    """Return the domain that a word stands for, however it is spaced and cased; None for no domain."""
    plain = " ".join(word.casefold().replace("_", " ").replace("-", " ").split())
    return plain if plain in DOMAINS else ALIASES.get(plain)
