"""What stands where a classifier could not be loaded: it has no score, so every request goes to the strong side."""

from gateway.schema.conversation import Conversation


class AbsentClassifier:
    """Give no score, ever."""

    version = "absent"

    async def score(self, conversation: Conversation) -> float | None:  # noqa: ARG002 - the shape of a classifier
        """Return None; the caller fails open and counts it."""
        return None

    def close(self) -> None:
        """Nothing is open."""
