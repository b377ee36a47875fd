"""What stands where a classifier could not be loaded: it judges nothing, so every request goes to the strong side."""

from gateway.core.judgement import Judgement, Reference
from gateway.schema.conversation import Conversation


class AbsentClassifier:
    """Judge nothing, ever."""

    version = "absent"
    reference: Reference | None = None

    async def judge(
        self,
        conversation: Conversation,  # noqa: ARG002 - the shape of a classifier
        tenant: str | None = None,  # noqa: ARG002 - likewise
    ) -> Judgement | None:
        """Return None; the caller fails open and counts it."""
        return None

    def judge_blocking(self, conversation: Conversation) -> Judgement | None:  # noqa: ARG002 - likewise
        """Return None."""
        return None

    def close(self) -> None:
        """Nothing is open."""
