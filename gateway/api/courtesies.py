"""What every answer of the cold endpoints is due, whoever made it: its request's id, and an unhurried end."""

from gateway.api.asgi import AsgiApp, Message, Receive, Scope, Send
from gateway.api.body import drain
from gateway.api.headers import REQUEST_ID, read_headers, request_id_of


def with_courtesies(app: AsgiApp) -> AsgiApp:
    """Wrap an application: every answer tells its request's id, and a client answered early may finish sending.

    Without the latter, closing on a client that still sends resets the connection, and the answer is lost with it.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        courtesies = _Courtesies(scope, receive, send)
        await app(scope, courtesies.receive, courtesies.send)

    return serve


class _Courtesies:
    """One exchange with a wrapped application."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = request_id_of(read_headers(scope["headers"]))
        self._id = (b"x-request-id", request_id.encode())
        scope.setdefault("state", {})[REQUEST_ID] = request_id
        self._receive = receive
        self._send = send
        self._is_read = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._is_read = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._is_read = self._is_read or await drain(self._receive, 0)
            closing = [] if self._is_read else [(b"connection", b"close")]
            message["headers"] = [*message.get("headers", ()), self._id, *closing]
        elif not self._is_read and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await drain(self._receive)
            message = {"type": "http.response.body"}
        await self._send(message)
