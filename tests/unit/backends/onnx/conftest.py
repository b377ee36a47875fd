import pytest

from gateway.backends.onnx.engine import OnnxEngine
from gateway.settings.engines import OnnxSettings
from tests.tiny_model import SLOW, tiny_folder


@pytest.fixture(scope="session")
def tiny():
    """The folder of a model that answers at once."""
    return tiny_folder()


@pytest.fixture(scope="session")
def slow():
    """The folder of the same model, working for each token."""
    return tiny_folder(work=SLOW)


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
