"""What is served now: the pipeline and its settings, swapped whole at a reload."""

from gateway.pipeline import Pipeline
from gateway.settings.discover import is_simulated
from gateway.settings.root import Settings


class Live:
    """The one place that a reload changes. Requests under way keep the pipeline they began with."""

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        self.pipeline = pipeline
        self.settings = settings
        self.is_draining = False
        self.cut = 0
        self.fleet_line = _fleet_line(settings)

    def swap(self, pipeline: Pipeline, settings: Settings) -> Pipeline:
        """Serve from another pipeline; return the old one, which still has requests to finish."""
        old, self.pipeline = self.pipeline, pipeline
        self.settings = settings
        self.fleet_line = _fleet_line(settings)
        return old

    def drain(self) -> None:
        """Take no new requests and report as not ready."""
        self.is_draining = True
        self.pipeline.parts.in_flight.is_draining = True


def _fleet_line(settings: Settings) -> bytes:
    """Say on every answer that nobody real has given it."""
    return b"x-postern-fleet: simulated\r\n" if is_simulated(settings) else b""
