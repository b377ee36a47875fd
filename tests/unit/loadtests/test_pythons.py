"""Which Python a subject runs on: how it was built, which of several is taken, and what the report says of it."""

import sys
import sysconfig

import pytest

from loadtests import pythons
from loadtests.pythons import Build, MissingError, best, is_optimised, tell

GCC = {"PGO_PROF_GEN_FLAG": "-fprofile-generate", "PGO_PROF_USE_FLAG": "-fprofile-use -fprofile-correction"}
PLAIN = {"CONFIG_ARGS": "'--prefix=/opt' 'LDFLAGS=-L/opt/lib -Wl,-rpath'", "PY_CFLAGS_NODIST": "-std=c11", **GCC}
FAST, SLOW = Build("3.11.2", is_optimised=True), Build("3.11.7", is_optimised=False)
THREE_ELEVEN, THREE_TWELVE = (3, 11), (3, 12)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, False),
        ({"CONFIG_ARGS": "'--prefix=/usr/local' '--enable-optimizations' '--with-lto'"}, True),
        ({"CONFIG_ARGS": "'--enable-optimizations=yes'"}, True),
        ({"CONFIG_ARGS": "'--enable-optimizations=no'"}, False),
        ({"CONFIG_ARGS": "'CFLAGS=-DNOTE=--enable-optimizations'"}, False),
        ({"PY_CFLAGS_NODIST": "-std=c11 -fprofile-use -fprofile-correction"}, True),
        ({"PY_CORE_CFLAGS": '-O3 -fprofile-instr-use="code.profclangd"'}, True),
        ({"CONFIG_ARGS": "'--enable-optimizations' '--with-pydebug'", "Py_DEBUG": 1}, False),
    ],
)
def test_a_profiled_build_is_known_by_how_it_was_configured_or_compiled(changed, expected):
    assert is_optimised({**PLAIN, **changed}) is expected


def test_debians_is_known_by_the_flag_that_its_packaging_wiped_out():
    assert is_optimised({**PLAIN, "PGO_PROF_USE_FLAG": ""})


def test_a_compiler_without_profiles_has_neither_flag_and_that_says_nothing():
    assert not is_optimised({**PLAIN, "PGO_PROF_GEN_FLAG": "", "PGO_PROF_USE_FLAG": ""})
    assert not is_optimised({})


def test_an_optimised_python_goes_before_one_that_was_named_earlier():
    builds = {"running": SLOW, "first": FAST, "second": FAST}
    assert best(builds, {THREE_ELEVEN}, builds.get) == "first"


def test_where_none_is_optimised_the_first_that_starts_is_taken():
    builds = {"broken": None, "running": SLOW, "other": SLOW}
    assert best(builds, {THREE_ELEVEN}, builds.get) == "running"


def test_only_a_wanted_version_is_taken():
    builds = {"a": FAST, "b": Build("3.12.1", is_optimised=False)}
    assert best(builds, {THREE_TWELVE}, builds.get) == "b"
    assert best(builds, {(3, 13)}, builds.get) is None


def test_none_is_asked_after_an_optimised_one():
    asked = []
    best(iter(["a", "b"]), {THREE_ELEVEN}, lambda python: asked.append(python) or FAST)
    assert asked == ["a"]


def test_the_running_python_is_what_its_own_sysconfig_says():
    build = pythons.build_of(sys.executable)
    assert build == Build(sys.version.split()[0], is_optimised(sysconfig.get_config_vars()))


def test_what_does_not_start_has_no_build(tmp_path):
    assert pythons.build_of(str(tmp_path / "python3.11")) is None
    assert pythons.build_of("/bin/false") is None


def test_a_version_that_nobody_has_is_told_by_name():
    with pytest.raises(MissingError, match=r"no Python 2\.0 or 2\.1 was found"):
        pythons.python_from((2, 0), (2, 1))


def test_an_environment_counts_while_its_lock_is_the_one_it_was_made_from(tmp_path, monkeypatch):
    monkeypatch.setattr(pythons, "PLACE", tmp_path)
    lock = tmp_path / "serve.txt"
    lock.write_text("a==1")
    assert pythons.environment("postern", lock) is None
    python = tmp_path / "postern" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    assert pythons.environment("postern", lock) is None
    pythons.stamp("postern").write_text("a==1")
    assert pythons.environment("postern", lock) == str(python)
    lock.write_text("a==2")
    assert pythons.environment("postern", lock) is None


def test_an_environment_is_outdone_by_an_optimised_python_alone():
    assert pythons.is_outdone(SLOW, FAST)
    assert not pythons.is_outdone(SLOW, SLOW)
    assert not pythons.is_outdone(FAST, FAST)
    assert not pythons.is_outdone(SLOW, None)


def test_an_environment_whose_python_is_gone_is_made_anew():
    assert pythons.is_outdone(None, None)


def test_the_report_says_on_which_python_and_how_it_was_built():
    told = tell({"Postern": FAST, "LiteLLM": FAST}, has_own=True)
    assert "Postern ran on Python 3.11.2, built with profile-guided optimisation (PGO)" in told
    assert "LiteLLM on Python 3.11.2, built with it" in told
    assert "without" not in told


def test_the_report_says_when_python_is_slower_than_what_users_run():
    told = tell({"Postern": SLOW}, has_own=True)
    assert "Postern ran on Python 3.11.7, built without profile-guided optimisation (PGO)" in told
    assert "less CPU time" in told
    assert "LiteLLM" not in told


def test_the_report_says_when_the_two_were_not_built_alike():
    told = tell({"Postern": FAST, "LiteLLM": SLOW}, has_own=True)
    assert "LiteLLM on Python 3.11.7, built without it" in told
    assert "less CPU time" in told


def test_the_report_says_how_to_give_postern_an_environment_that_it_lacks():
    assert "python -m loadtests.peers postern" in tell({"Postern": SLOW}, has_own=False)
    assert "loadtests.peers" not in tell({"Postern": SLOW}, has_own=True)
