"""A connection without a network: whatever comes, in whatever pieces, is read alike, and nothing gets past it."""

import asyncio
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import connection
from gateway.api.connection import INVALID, MAX_HEAD_BYTES, TOO_LARGE, Connection, Port, without_offer
from gateway.core.deadlines import Wheel

PATH = b"/v1/chat/completions"


class Line:
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    write_eof = abort = pause_reading = resume_reading = lambda _: None

    def is_closing(self) -> bool:
        return self.closed


class Heard:
    """An exchange that keeps what it is told, and answers once its body is whole."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.keep_alive = connection.keep_alive
        self.headers = connection.headers
        self.body = b""
        self.told: list[str] = []

    def take(self, part: bytes) -> None:
        assert part
        self.body += part

    def finish(self) -> None:
        self.told.append("finish")
        self.connection.transport.write(b"ANSWER")
        self.connection.end_exchange(keep_alive=self.keep_alive)

    def spoil(self) -> None:
        self.keep_alive = False
        self.told.append("spoil")

    def lose(self) -> None:
        self.told.append("lose")


def read(*pieces: bytes, answers: bool = True) -> tuple[Line, list[Heard]]:
    """Have a connection read pieces; return what it wrote and the exchanges it opened."""
    heard: list[Heard] = []

    def open_hot(connection: Connection, path: bytes) -> Heard | None:
        if path != PATH:
            return None
        heard.append(Heard(connection) if answers else Mute(connection))
        return heard[-1]

    def open_asgi(connection: Connection, path: str, target: object) -> Heard:
        heard.append(Cold(connection))
        return heard[-1]

    async def run() -> Line:
        port = Port(10.0, 10.0, open_hot, open_asgi, Wheel())
        state = SimpleNamespace(connections=set(), tasks=set(), total_requests=0, default_headers=[])
        line, connection = Line(), Connection(port, None, state, {})
        connection.connection_made(line)
        for piece in pieces:
            if not line.closed:
                connection.data_received(piece)
        connection.connection_lost(None)
        assert not state.connections
        return line

    return asyncio.run(run()), heard


class Mute(Heard):
    """An exchange that has not answered yet."""

    def finish(self) -> None:
        self.told.append("finish")


class Cold(Heard):
    """An exchange that is not hot."""


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut bytes at places, counted from the start and wrapped around the end."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


tokens = st.text("abcXYZ019-_", min_size=1, max_size=12).map(str.encode)
values = st.text("abc XYZ019,;=/\"'\t", max_size=30).map(lambda text: text.strip().encode())
others = st.lists(st.tuples(tokens.map(lambda token: b"x-" + token), values), max_size=8)
bodies = st.binary(max_size=300)
places = st.lists(st.integers(0, 5_000), max_size=12)


def written(headers: list[tuple[bytes, bytes]], body: bytes, size: int) -> bytes:
    """Write a request; in chunks of `size`, or by its length where that is 0."""
    how = (b"transfer-encoding", b"chunked") if size else (b"content-length", b"%d" % len(body))
    lines = [b"%b: %b" % header for header in [*headers, how]]
    parts = [body[at : at + size] for at in range(0, len(body), size)] if size else []
    framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n" if size else body
    return b"\r\n".join([b"POST %b HTTP/1.1" % PATH, *lines, b"", b""]) + framed


@given(first=others, second=others, body=bodies, size=st.integers(0, 50), where=places)
def test_requests_are_read_alike_in_whatever_pieces_they_come(first, second, body, size, where):
    line, heard = read(*cut(written(first, body, size) + written(second, b"", size), where))
    assert [exchange.body for exchange in heard] == [body, b""]
    assert [exchange.told for exchange in heard] == [["finish"], ["finish"]]
    assert not any(isinstance(exchange, Cold) for exchange in heard)
    told = [[header for header in exchange.headers if header[0].startswith(b"x-")] for exchange in heard]
    assert told == [[(name.lower(), value) for name, value in headers] for headers in (first, second)]
    assert (line.written, line.closed) == (b"ANSWERANSWER", False)


near_http = st.lists(
    st.binary(max_size=20)
    | st.sampled_from([b"POST ", PATH, b" HTTP/1.1\r\n", b"content-length: 3\r\n", b"\r\n", b"\r\n\r\n", b"abc", b"0"])
    | st.sampled_from([b"transfer-encoding: chunked\r\n", b"connection: upgrade\r\nupgrade: h2c\r\n", b"CONNECT a:1 "])
    | st.sampled_from([written([], b"{}", 0), written([], b"{}", 1), b"connection: close\r\n", b"HTTP/1.0\r\n"]),
    max_size=10,
).map(b"".join)


@given(data=near_http, where=places, answers=st.booleans())
def test_whatever_comes_is_served_or_told_off_once(data, where, answers):
    line, heard = read(*cut(data, where), answers=answers)
    farewell = line.written.replace(b"ANSWER", b"")
    assert farewell in {b"", INVALID}
    assert all(len(exchange.told) == len(set(exchange.told)) for exchange in heard)
    if any(isinstance(exchange, Mute) for exchange in heard):
        assert farewell == b"", "nothing is mixed into an answer under way"


def test_a_request_that_comes_before_the_answer_is_not_opened():
    whole = written([], b"{}", 0)
    line, heard = read(whole + whole, answers=False)
    assert [(exchange.told, exchange.body) for exchange in heard] == [(["finish", "spoil", "lose"], b"{}")]
    assert line.written == b""


@pytest.mark.parametrize("pieces", [1, 40])
def test_a_head_has_a_size(pieces):
    head = b"POST %b HTTP/1.1\r\nx-a: %b\r\n\r\n"
    fits, over = (head % (PATH, b"y" * size) for size in (MAX_HEAD_BYTES - 100, MAX_HEAD_BYTES))
    step = len(over) // pieces
    line, heard = read(*(over[at : at + step] for at in range(0, len(over), step)))
    assert (line.written, heard) == (TOO_LARGE, [])
    assert len(read(fits)[1]) == 1


@pytest.mark.parametrize("line", [b"x-a: 1\r\n", b"y"])
def test_a_head_that_never_ends_is_cut(line):
    start = b"POST %b HTTP/1.1\r\nx-a: " % PATH
    assert read(start, *[line * 1000] * 70)[0].written == TOO_LARGE


def test_who_was_told_off_is_told_nothing_more():
    """The parser reads a piece to its end, whatever is thought of its beginning."""
    over = b"POST %b HTTP/1.1\r\nx-a: %b\r\n\r\n" % (PATH, b"y" * MAX_HEAD_BYTES)
    line, heard = read(over + b"\x00")
    assert (line.written, heard) == (TOO_LARGE, [])


def test_a_body_in_the_same_piece_does_not_count_as_head():
    _, heard = read(written([], b"y" * (MAX_HEAD_BYTES * 2), 0))
    assert len(heard[0].body) == MAX_HEAD_BYTES * 2


CHUNKED = b"POST %b HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" % PATH


def test_trailers_are_read_past():
    _, heard = read(CHUNKED + b"2\r\n{}\r\n0\r\nauthorization: Bearer a\r\n\r\n")
    assert heard[0].told == ["finish"]
    assert heard[0].headers == [(b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize("start", [b"0\r\n", b"0\r\nx-a: ", b"2;"])
@pytest.mark.parametrize("unit", [b"x-a: 1\r\n", b"y"])
def test_what_is_sent_without_end_and_is_no_body_is_cut(start, unit):
    _, heard = read(CHUNKED + b"2\r\n{}\r\n" + start, *[unit * 1000] * 70)
    assert (heard[0].body, heard[0].told) == (b"{}", ["spoil", "lose"])


def test_a_body_in_small_chunks_may_be_long():
    line, heard = read(CHUNKED, *[b"1;a=b\r\ny\r\n" * 100] * 200, b"0\r\n\r\n")
    assert (len(heard[0].body), line.written) == (20_000, b"ANSWER")


def test_a_path_is_hot_however_it_is_written():
    for target in (PATH, PATH + b"?a=b", b"/v1/chat%2Fcompletions", b"http://host" + PATH):
        _, heard = read(b"POST %b HTTP/1.1\r\ncontent-length: 0\r\n\r\n" % target, answers=False)
        assert [type(exchange) for exchange in heard] == [Mute]


@pytest.mark.parametrize("target", [b"*", b"//", b"/%ff", b"http://", b"/a#b"])
def test_an_odd_target_is_served_or_refused(target, monkeypatch):
    monkeypatch.setattr(connection, "log_failure", pytest.fail)  # it is no fault of ours
    line, heard = read(b"OPTIONS %b HTTP/1.1\r\n\r\n" % target)
    assert bool(heard) is (line.written == b"ANSWER")
    assert line.written in {b"ANSWER", INVALID}


def test_the_first_lines_of_an_answer_change_with_the_date():
    port = Port(1.0, 1.0, lambda *_: None, None, Wheel())
    first, second = [(b"date", b"one")], [(b"date", b"two")]
    assert port.status_line(200, first) == b"HTTP/1.1 200 OK\r\ndate: one\r\n"
    assert port.status_line(404, first) == b"HTTP/1.1 404 Not Found\r\ndate: one\r\n"
    assert port.status_line(200, second) == b"HTTP/1.1 200 OK\r\ndate: two\r\n"


def test_an_offer_is_taken_out_of_the_headers_and_what_goes_with_it_stays():
    offered = [(b"connection", b"Upgrade, close, HTTP2-Settings"), (b"upgrade", b"h2c"), (b"x-a", b"1")]
    assert without_offer(offered) == [(b"x-a", b"1"), (b"connection", b"close")]
    assert without_offer([(b"connection", b"upgrade"), (b"host", b"a")]) == [(b"host", b"a")]
