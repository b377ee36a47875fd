"""Who judges a request before it is decided, as the walk sees them."""

from typing import Protocol

from gateway.core.judgement import Judgement
from gateway.core.personal import PersonalKind
from gateway.schema.conversation import Conversation
from gateway.schema.request import Request


class Judge(Protocol):
    """A classifier as the walk sees it: it gives a judgement or none, and never fails."""

    @property
    def version(self) -> str:
        """Change whenever a judgement could."""
        ...

    async def judge(self, conversation: Conversation, tenant: str | None = None) -> Judgement | None:
        """Return the win rate and what else the router can tell, or None."""
        ...


class Detector(Protocol):
    """Looks for personal data as the walk needs it: it never fails, and what it can't read it takes as personal."""

    async def find_kinds(self, request: Request, request_id: str, *, wants_all: bool) -> frozenset[PersonalKind]:
        """Return the kinds found, none where there are none; unless all are wanted, the first will do."""
        ...
