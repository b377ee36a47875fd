"""Whose microsecond a sample of the profile is."""

import xml.etree.ElementTree as ET

from loadtests.flame import boxes, grow, svg
from loadtests.stages import LOOP, REST, read_folded, stage_of, table

FOLDED = """\
run (asyncio/runners.py:86);walk (gateway/pipeline.py:10);score (gateway/classify/guard.py:5);dot (numpy/core.py:1) 30
main (gateway/__main__.py:1);run (asyncio/runners.py:86);walk (gateway/pipeline.py:10) 10
run (asyncio/runners.py:86) 40
main (thread.py:1) 20
bootstrap (threading.py:3);_worker (concurrent/futures/thread.py:69) 99
"""


def test_a_sample_belongs_to_the_innermost_stage_and_what_it_calls_in_libraries():
    stacks = read_folded(FOLDED)
    assert [stage_of(names) for names, _ in stacks] == ["classify", "the walk itself", LOOP, REST]


def test_a_thread_that_waits_for_work_is_not_counted():
    assert sum(count for _, count in read_folded(FOLDED)) == 100


def test_the_table_shares_the_cpu_of_a_request_out():
    told = table(read_folded(FOLDED), 200)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in told.splitlines()[2:]]
    assert rows[0] == [LOOP, "80.0", "40%"]
    assert rows[1] == ["classify", "60.0", "30%"]
    assert rows[-1] == ["all", "200", "100%"]


def test_a_flame_is_as_wide_as_its_share_and_lies_over_its_caller():
    found = {box.name.partition(" ")[0]: box for box in boxes(grow(read_folded(FOLDED)))}
    assert found["all"].width == 1180
    assert found["run"].width == 1180 * 0.8
    assert found["score"].left == found["walk"].left
    assert [found[name].depth for name in ("all", "run", "walk", "score", "dot")] == [0, 1, 2, 3, 4]


def test_what_is_narrower_than_a_pixel_is_left_out():
    root = grow([(["wide (a.py:1)"], 99_999), (["thin (b.py:1)"], 1)])
    assert [box.name for box in boxes(root)] == ["all", "wide (a.py:1)"]


def test_a_picture_is_well_formed_whatever_functions_are_called():
    picture = ET.fromstring(svg(grow([(["<lambda> (a&b.py:1)"], 5)]), "<title>"))
    assert any("<lambda>" in (text.text or "") for text in picture.iter() if text.tag.endswith("title"))
