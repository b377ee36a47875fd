"""What the load generators send."""

import json

from loadtests.bodies import MIXED_BYTES, NUMBER, Door, Plan, answer_body, compose
from loadtests.upstream import COUNT, LENGTH, PACE
from loadtests.wrk import lua_text, read, write_script

DOOR = Door(8080, ("small", "large"), (("x-one", "1"),), ("key-0", "key-1", "key-2"))


def test_a_request_says_its_true_length_and_has_its_number_once():
    for one in compose(Plan(sizes_bytes=MIXED_BYTES), DOOR):
        head, _, body = one.whole.partition(b"\r\n\r\n")
        assert one.whole.count(NUMBER.encode()) == 1
        assert int(LENGTH.search(head)[1]) == len(body)
        assert json.loads(body)["messages"][0]["content"].startswith(NUMBER)


def test_models_keys_and_sizes_rotate():
    found = [one.whole for one in compose(Plan(sizes_bytes=(512, 4096), variants=6), DOOR)]
    assert [b'"model": "small"' in one for one in found] == [True, False] * 3
    assert [b"Bearer key-2" in one for one in found] == [False, False, True] * 2
    assert [len(one) > 4096 for one in found] == [False, True] * 3


def test_a_body_is_about_as_large_as_asked():
    for size_bytes in (512, 2048, 32_768):
        body = compose(Plan((size_bytes,), 1), DOOR)[0].whole.partition(b"\r\n\r\n")[2]
        assert size_bytes <= len(body) < size_bytes * 1.05


def test_the_fake_upstream_reads_its_pace_from_every_spelling_of_json():
    for body in (b'{"seed": 10, "max_tokens": 3}', b'{"seed":10,"max_tokens":3}'):
        assert PACE.search(body)[1] == b"10"
        assert COUNT.search(body)[1] == b"3"


def test_the_instant_answer_fits_into_an_nginx_configuration():
    assert len(answer_body(1536)) == 1536
    assert "'" not in answer_body()
    assert json.loads(answer_body())["usage"]["total_tokens"] == 650


def test_a_text_in_wrks_script_is_escaped():
    assert lua_text(b'a "b"\r\n\\n') == r'"a \"b\"\r\n\\n"'


def test_the_same_request_again_and_again_has_the_same_number(tmp_path):
    requests = compose(Plan(variants=1), DOOR)
    write_script(tmp_path / "same.lua", requests, start=5, is_same=True)
    write_script(tmp_path / "other.lua", requests, start=5, is_same=False)
    assert "number + 0" in (tmp_path / "same.lua").read_text()
    assert "number + 1" in (tmp_path / "other.lua").read_text()


def test_what_wrk_tells_is_read_from_its_last_line():
    line = 'RESULT {"requests": 10, "wall_us": 1000, "failed": 1, "p50_us": 5, "p99_us": 9}'
    assert read(f"Running 1s test\n\n{line}\n").failed == 1
