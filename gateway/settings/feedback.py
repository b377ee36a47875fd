"""The sections `feedback` and `learning_log`: what is kept of answers for marks that come later, and for training."""

from typing import Annotated

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=1)]
Path = Annotated[str, Meta(min_length=1)]


class FeedbackSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For how long, and for how many requests, `POST /v1/feedback` can say how good the answer was. Keeps no texts."""

    ttl_s: Annotated[
        Count, Meta(description="Seconds an answer can be marked. Default 3600: people judge what they have just read.")
    ] = 3600
    max_entries: Annotated[
        Count,
        Meta(description="Answers remembered in the in-process store. Default 20000: some 10 MB; Redis bounds itself."),
    ] = 20_000


class LearningLogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of prompts, decisions and marks to train a router on. It holds what users wrote: off by default."""

    path: Annotated[
        Path, Meta(description="The file, JSON Lines, made with mode 0600. All workers append to the same one.")
    ]
    personal: Annotated[
        bool,
        Meta(
            description="Write prompts with personal data, or with what can't be searched for it, too. "
            "Default false: they are left out, whatever the route's policy."
        ),
    ] = False
    max_bytes: Annotated[
        Annotated[int, Meta(ge=1_048_576)],
        Meta(
            description="Bytes of the file at most; a full one becomes `PATH.1` in place of the last such. "
            "Default 1 GiB: some 500,000 prompts."
        ),
    ] = 1_073_741_824
