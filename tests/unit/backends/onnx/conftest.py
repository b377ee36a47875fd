import pytest

from gateway.backends.onnx.engine import OnnxEngine
from gateway.settings.engines import OnnxSettings
from tests.tiny_model import SLOW, build_tiny_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The folder of a model that answers at once."""
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def slow(tmp_path_factory):
    """The folder of the same model, working for each token."""
    return build_tiny_model(tmp_path_factory.mktemp("slow"), work=SLOW)


@pytest.fixture
async def engine_of():
    """Makes engines, and closes them."""
    made = []

    def make(folder, **settings):
        made.append(OnnxEngine("m", OnnxSettings(str(folder), **settings)))
        return made[-1]

    yield make
    for engine in made:
        await engine.close()
