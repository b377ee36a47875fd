"""Commands that come with an extra. Owns how they are found: by name, when asked for. Never imports what trains."""

from importlib.metadata import entry_points
from typing import Any, Final

import click

GROUP: Final = "postern.commands"
TRAINING: Final = {
    "train": "Train a router on prompts with known scores.",
    "calibrate": "Find the threshold for a share, a budget or a bounded loss.",
    "adapt": "Fit a router to your own pair of models.",
    "evaluate": "Measure routers: APGR, CPT, calibration, cost, robustness.",
}


class MissingExtraError(click.ClickException):
    """What the command needs is not installed."""

    exit_code = 2

    def __init__(self, name: str, extra: str, missing: str) -> None:
        # Not by the name: on PyPI `postern` is another project.
        super().__init__(f"postern {name} needs {missing}; in Postern's folder: pip install '.[{extra}]'")

    def show(self, file: Any = None) -> None:
        """Print the message alone."""
        click.echo(self.message, file=file, err=file is None)


class ExtraCommand(click.Command):
    """A command whose code is found and imported when it is invoked."""

    def __init__(self, name: str, summary: str, extra: str = "train") -> None:
        super().__init__(name, short_help=summary)
        self._name: Final = name
        self._extra: Final = extra

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **more: Any) -> click.Context:
        """Hand the arguments over to the command itself, which click then invokes. Raises MissingExtraError."""
        return self._load().make_context(info_name, args, *rest, **more)

    def _load(self) -> click.Command:
        found = entry_points(group=GROUP, name=self._name)
        if not found:
            raise MissingExtraError(self._name, self._extra, f"an installation that names it under {GROUP}")
        try:
            command = next(iter(found)).load()
        except ModuleNotFoundError as exc:
            raise MissingExtraError(self._name, self._extra, f"the package {exc.name}") from exc
        if not isinstance(command, click.Command):
            raise MissingExtraError(self._name, self._extra, f"a click command under {GROUP}")
        return command


def add_extra_commands(group: click.Group) -> None:
    """Add each command of an extra to `group`, so that `--help` lists it whether or not the extra is installed."""
    for name, summary in TRAINING.items():
        group.add_command(ExtraCommand(name, summary))
