"""Commands of an extra: listed always, imported when asked for, refused with what to install."""

import tomllib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway import extras
from gateway.commands import main

DECLARED = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]["entry-points"]


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def pretend(monkeypatch, *points):
    monkeypatch.setattr(extras, "entry_points", lambda *, group, name: [one for one in points if one.name == name])


def test_the_installation_names_each_training_command():
    found = {point.name: point.value for point in entry_points(group=extras.GROUP)}
    assert found == DECLARED[extras.GROUP]
    assert set(found) == set(extras.TRAINING)


@pytest.mark.parametrize("name", extras.TRAINING)
def test_each_shows_its_own_help_with_examples(name):
    found = run(name, "--help")
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith(f"Usage: main {name} ")
    assert "Example" in found.stdout
    assert f"postern {name} " in found.stdout.split("Example")[1]


def test_the_list_of_commands_names_them_without_importing_any(monkeypatch):
    pretend(monkeypatch)
    listed = run("--help").stdout
    assert all(f"  {name} " in listed for name in extras.TRAINING)


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    pretend(monkeypatch, EntryPoint("train", "no_such_package.at_all:train", extras.GROUP))
    found = run("train", "--help")
    assert (found.exit_code, found.stdout) == (2, "")
    assert (
        found.stderr == "postern train needs the package no_such_package; in Postern's folder: pip install '.[train]'\n"
    )


def test_an_installation_without_the_entry_says_so(monkeypatch):
    pretend(monkeypatch)
    found = run("evaluate", "--data", "x")
    assert found.exit_code == 2
    assert "pip install '.[train]'" in found.stderr


def test_what_is_no_command_is_refused(monkeypatch):
    pretend(monkeypatch, EntryPoint("train", "json:dumps", extras.GROUP))
    assert run("train").exit_code == 2


def test_arguments_reach_the_command_as_they_stand(monkeypatch):
    @click.command()
    @click.option("--data")
    @click.argument("rest", nargs=-1)
    def fake(data, rest):
        click.echo(f"{data}|{rest}")

    class Point:
        name = "train"

        def load(self):
            return fake

    pretend(monkeypatch, Point())
    found = run("train", "--data", "a b", "--", "-x", "--y")
    assert (found.exit_code, found.stdout) == (0, "a b|('-x', '--y')\n")
