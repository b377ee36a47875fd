"""Routers side by side: which one decides for a conversation, and which only judge along. Pure."""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from itertools import takewhile

import msgspec

from gateway.schema.conversation import Conversation
from gateway.settings.routes import TrialSettings

_HEAD_CHARACTERS = 500
"""How much of a text tells conversations apart; of 2,000 characters the hash takes three times as long."""


class Mode(StrEnum):
    """What a router is to a route."""

    MAIN = "main"
    SHARE = "share"
    SHADOW = "shadow"


class Trials(msgspec.Struct, frozen=True):
    """The routers beside a route's own. `shares`: each with the end of its stretch between 0 and 1."""

    shares: tuple[tuple[str, float], ...] = ()
    shadows: tuple[str, ...] = ()

    def pick(self, main: str, point: float) -> str:
        """Return the router whose stretch a conversation's point lies in; past them all, the route's own."""
        return next((router for router, end in self.shares if point < end), main)


def build_trials(settings: Mapping[str, TrialSettings]) -> Trials | None:
    """Return a route's trials, or None where its own router is alone."""
    if not settings:
        return None
    shares, end = [], 0.0
    for router, trial in settings.items():
        if trial.share:
            end += trial.share
            shares.append((router, end))
    return Trials(tuple(shares), tuple(router for router, trial in settings.items() if trial.shadow))


def point_of(route: str, tenant: str, session: str | None, conversation: Conversation) -> float:
    """Return a conversation's point, 0 to 1: the same for all of its requests, evenly spread over conversations.

    Requests of one conversation share its session, or else its beginning: up to and with its first user's turn.
    """
    digest = hashlib.blake2b(f"{route}\n{tenant}\n".encode("utf-8", "surrogatepass"), digest_size=8)
    if session is not None:
        digest.update(f"session {session}".encode("utf-8", "surrogatepass"))
    else:
        for text in _beginning(conversation):
            digest.update(text[:_HEAD_CHARACTERS].encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest()) / 2**64


def _beginning(conversation: Conversation) -> list[str]:
    before = list(takewhile(lambda turn: turn.role != "user", conversation.turns))
    return [turn.text for turn in conversation.turns[: len(before) + 1]]
