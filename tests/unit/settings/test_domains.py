"""The words that operators write for subjects."""

import pytest

from gateway.core.judgement import DOMAINS
from gateway.settings.domains import ALIASES, find_domain


def test_every_domain_and_every_alias_is_found_and_no_alias_hides_a_domain():
    assert [find_domain(domain) for domain in DOMAINS] == list(DOMAINS)
    assert {find_domain(alias) for alias in ALIASES} <= set(DOMAINS)
    assert not set(ALIASES) & set(DOMAINS)


@pytest.mark.parametrize(
    ("word", "domain"),
    [
        ("medicine", "health"),
        ("Medical", "health"),
        ("programming", "code"),
        ("mathematics", "math"),
        ("computer_science", "computer science"),
        (" Computer-Science ", "computer science"),
        ("cs", "computer science"),
        ("lawn", None),
        ("", None),
    ],
)
def test_a_word_is_read_as_people_write_it(word, domain):
    assert find_domain(word) == domain
