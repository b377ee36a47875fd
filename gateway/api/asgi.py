"""The types of ASGI, as far as the gateway speaks it: https://asgi.readthedocs.io/en/latest/specs/www.html."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
# Any: every library has its own types for these three.
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]
