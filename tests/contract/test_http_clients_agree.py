"""The lean client against httpx2 as its oracle: the same bytes from a server, cut anywhere, mean the same to both.

They differ where it is listed. The lean client refuses what is in `STRICTER`, which httpx2 believes; what httpx2
refuses the lean client never believes, but for `LAXER`.
"""

import asyncio
import re
import zlib

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.backends.http import HttpError, HttpHead, HttpRequest
from gateway.backends.http1_pool import Http1Client
from gateway.backends.httpx2_client import Httpx2Client
from tests.byte_server import ByteServer

REFUSED = (0, b"refused")

STRICTER = {
    # A line ends with CR and LF: whoever takes one alone can be made to see another message (RFC 9112, 2.2).
    "a bare line end": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    # Told twice, a body can be told differently to the next who reads it: "ought to be handled as an error" (6.3).
    "a length beside chunks": b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\ntransfer-encoding: chunked\r\n\r\n"
    b"2\r\nhi\r\n0\r\n\r\n",
    "a length told twice": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nhi",
}
# A control character in the reason behind the status: nobody here reads the reason.
LAXER = re.compile(rb"HTTP/1\.[01] [0-9]{3} [^\r\n]*[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def outcome(make, pieces):
    """What a client makes of a server that sends these pieces and closes."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_outcome(make, pieces))


async def _outcome(make, pieces):
    async def script(peer):
        await peer.request()
        for piece in pieces:
            await peer.send(piece)
            await asyncio.sleep(0)

    async with ByteServer(script) as server:
        client = make(connect_s=1.0, max_connections=1)
        try:
            async with asyncio.timeout(5):
                response = await client.send(HttpRequest(HttpHead(server.url, {}), b"{}"))
                body = await response.read(10**6)
                told = {name: response.headers.get(name) for name in ("x-a", "content-type", "retry-after")}
                await response.close()
                return response.status, body, told
        except HttpError:
            return REFUSED
        finally:
            await client.close()


def chunked(body, sizes, extension=b"", trailers=b""):
    pieces, at = [], 0
    for size in (*sizes, len(body)):
        piece = body[at : at + size]
        at += size
        if piece:
            pieces.append(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece))
    return b"".join(pieces) + b"0%b\r\n%b\r\n" % (extension, trailers)


@st.composite
def answers(draw):
    """A response as a server may send it, and now and then one that lies."""
    body = draw(st.binary(max_size=60) | st.just(b'data: {"x": 1}\n\n' * 5))
    interim = draw(
        st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n"])
    )
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]))
    status = draw(st.sampled_from([200, 200, 200, 201, 204, 304, 400, 429, 500, 503, 599]))
    lines = draw(
        st.lists(
            st.sampled_from(
                [
                    b"X-A: one", b"x-a:two", b"x-a:  three  ", b"content-type: application/json", b"retry-after: 17",
                    b"connection: close", b"connection: keep-alive", b"date: today", b"x-empty:", b"x-\xe9: \xe9",
                    b"set-cookie: a=b; c=d",
                ]
            ),
            max_size=5,
        )
    )  # fmt: skip
    coding = draw(st.sampled_from([b"", b"", b"", b"gzip", b"deflate", b"identity"]))
    if coding:
        lines.append(b"Content-Encoding: " + coding)
        packer = zlib.compressobj(wbits=31 if coding == b"gzip" else 15)
        body = body if coding == b"identity" else packer.compress(body) + packer.flush()
    framing = draw(st.sampled_from(["length", "length", "chunks", "end", "lie"]))
    if framing == "length":
        lines.append(b"content-length: %d" % len(body))
    elif framing == "lie":
        lines.append(b"content-length: %d" % max(0, len(body) + draw(st.integers(-5, 5))))
    elif framing == "chunks":
        lines.append(b"Transfer-Encoding: " + draw(st.sampled_from([b"chunked", b"Chunked", b"gzip, chunked"])))
        trailers = draw(st.sampled_from([b"", b"", b"x-a: late\r\n", b"x-sum: 1\r\nx-b: 2\r\n"]))
        extension = draw(st.sampled_from([b"", b"", b";a=b", b';a="b c"']))
        body = chunked(body, draw(st.lists(st.integers(1, 20), max_size=5)), extension, trailers)
    if status in {204, 304}:
        body = b""
    head = b"HTTP/%b %d Reason\r\n%b\r\n" % (version, status, b"".join(line + b"\r\n" for line in lines))
    return interim + head + body


@st.composite
def spoiled(draw):
    """A response with a few bytes taken out, put in or changed."""
    raw = draw(answers())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        noise = draw(st.sampled_from([b"", b"\r\n", b"\n", b"\r", b" ", b":", b"0", b"9", b"\x00", b"\xff"]))
        raw = raw[:at] + noise + raw[at + draw(st.integers(0, 3)) :]
    return raw


@st.composite
def cut(draw, raws):
    """The pieces in which a network may bring it."""
    raw = draw(raws)
    cuts = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    return [piece for piece in pieces if piece]


@settings(max_examples=60)
@given(cut(answers()))
def test_what_a_server_may_send_means_the_same_to_both(pieces):
    assert outcome(Http1Client, pieces) == outcome(Httpx2Client, pieces)


@settings(max_examples=100)
@given(cut(spoiled()))
def test_what_a_server_must_not_send_is_never_believed_alone(pieces):
    told = outcome(Http1Client, pieces)
    assert told == REFUSED or told == outcome(Httpx2Client, pieces) or LAXER.search(b"".join(pieces))


@pytest.mark.parametrize("lie", STRICTER)
def test_what_only_httpx2_believes(lie):
    assert outcome(Http1Client, [STRICTER[lie]]) == REFUSED
    assert outcome(Httpx2Client, [STRICTER[lie]])[:2] == (200, b"hi")


@pytest.mark.parametrize("blank", [b"\r\n", b"\n", b"\r"])
def test_nothing_stands_before_an_answer(blank):
    whole = blank + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
    assert outcome(Http1Client, [whole]) == outcome(Http1Client, [whole[:1], whole[1:]]) == REFUSED
