import msgspec
import pytest

from gateway.backends.engine import Sampling
from gateway.backends.onnx.wire import (
    LENGTH,
    Alive,
    Begin,
    Cancel,
    Failed,
    Fault,
    Ready,
    Said,
    Unready,
    frame_of,
    length_of,
    read_order,
    read_report,
)

SAMPLING = Sampling(5, temperature=0.5, stop=("\n", "漢"), schema=b"{}", seed=2**63)


@pytest.mark.parametrize("order", [Begin(1, "hello 漢🙂\0", SAMPLING, is_streaming=False), Cancel(2**40)])
def test_an_order_arrives_as_it_was_sent(order):
    frame = frame_of(order)
    assert length_of(frame[: LENGTH.size]) == len(frame) - LENGTH.size
    assert read_order(frame[LENGTH.size :]) == order


@pytest.mark.parametrize(
    "report",
    [Ready(2048), Unready("no file"), Alive(), Said(1, " é", 2, 3, "stop"), Failed(1, Fault.WINDOW, "too long")],
)
def test_a_report_arrives_as_it_was_sent(report):
    assert read_report(frame_of(report)[LENGTH.size :]) == report


def test_an_order_is_no_report():
    with pytest.raises(msgspec.ValidationError):
        read_report(frame_of(Cancel(1))[LENGTH.size :])
