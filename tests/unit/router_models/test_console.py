import pytest

from router_models.commands.console import Refusal, refusing, write_whole


def test_a_file_is_written_whole(tmp_path):
    write_whole(tmp_path / "new" / "a.json", b"1")
    assert (tmp_path / "new" / "a.json").read_bytes() == b"1"


def test_an_interruption_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, b"new")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("a.json", b"old")]


def test_only_named_errors_become_refusals():
    with pytest.raises(Refusal, match="say what to do"), refusing(ValueError):
        raise ValueError("say what to do")
    with pytest.raises(KeyError), refusing(ValueError):
        raise KeyError("x")
