"""The worker process: `python -m gateway.backends.onnx.worker FD OPTIONS`, started by `process`.

One thread owns the model and takes steps; a second reads what the gateway asks for, so that a task given up while
waiting is gone at once, and the end of the gateway (its socket closes) ends this process in the middle of a step.
What is told blocks where the gateway does not read: then there is nothing to hurry for.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence

import msgspec

from gateway.backends.onnx.inbox import Inbox
from gateway.backends.onnx.lanes import Lane, Model, Turn, TurnError, lanes_for, warm_up
from gateway.backends.onnx.wire import (
    BEAT_S,
    LENGTH,
    Alive,
    Begin,
    Failed,
    Options,
    Ready,
    Said,
    Unready,
    frame_of,
    length_of,
    read_order,
)


class Reports:
    """What is told, sent once a step."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._frames = bytearray()
        self._sent_s = 0.0

    def tell(self, report: Ready | Unready | Said | Failed) -> None:
        """Add a report."""
        self._frames += frame_of(report)

    def send(self) -> None:
        """Send what was added; after a while without, that all is well. Waits while the gateway does not read."""
        now_s = time.monotonic()
        if not self._frames and now_s - self._sent_s >= BEAT_S:
            self._frames += frame_of(Alive())
        if self._frames:
            self._sent_s = now_s
            self._link.sendall(self._frames)
            self._frames.clear()


def work(model: Model, inbox: Inbox, reports: Reports) -> None:
    """Take steps for ever."""
    lanes: list[Lane] = []
    while True:
        begun, cancelled = inbox.take(sum(len(lane.turns) for lane in lanes))
        _drop(lanes, cancelled)
        lanes += lanes_for(model, list(_turns(model, begun, reports)), reports.tell)
        for lane in lanes:
            if lane.turns:
                lane.step(reports.tell)
        lanes = [lane for lane in lanes if lane.turns]
        reports.send()


def _turns(model: Model, begun: Sequence[Begin], reports: Reports) -> Sequence[Turn]:
    turns = []
    for begin in begun:
        try:
            turns.append(Turn(model, begin))
        except TurnError as exc:
            reports.tell(Failed(begin.task, exc.fault, exc.message))
    return turns


def _drop(lanes: Sequence[Lane], cancelled: frozenset[int]) -> None:
    for lane in lanes:
        for turn in list(lane.turns):
            if turn.task in cancelled:
                lane.drop(turn)


def _listen(link: socket.socket, inbox: Inbox) -> None:
    """Read orders until the gateway is gone, then end the process whatever it is at."""
    try:
        with link.makefile("rb") as stream:
            while head := stream.read(LENGTH.size):
                inbox.put(read_order(stream.read(length_of(head))))
    finally:
        os._exit(0)


def _load(options: Options, reports: Reports) -> Model | None:
    try:
        model = Model(options)
        warm_up(model)
    except Exception as exc:  # noqa: BLE001 - the edge of the process: each library fails in its own way
        reports.tell(Unready(f"{type(exc).__name__}: {str(exc).strip()[:500]}"))
        reports.send()
        return None
    reports.tell(Ready(model.window_tokens))
    reports.send()
    return model


def main(arguments: Sequence[str]) -> int:
    """Load the model, say so, and serve until the gateway is gone."""
    # A terminal's Ctrl-C, and a service manager's SIGTERM to the whole group, are the gateway's to drain on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    link = socket.socket(fileno=int(arguments[0]))
    options = msgspec.json.decode(arguments[1], type=Options)
    inbox, reports = Inbox(options.max_batch), Reports(link)
    threading.Thread(target=_listen, args=(link, inbox), daemon=True).start()
    model = _load(options, reports)
    if model is None:
        return 1
    # The runtime warns of faults with parts of answers.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    work(model, inbox, reports)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
