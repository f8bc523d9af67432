"""The meshes of the tests, made where there are four devices."""

import jax
import pytest
from flax import nnx


@pytest.fixture
def mesh(request):
    """The mesh of the test, in each way in which a mesh can be set.

    Flax does not see a mesh of the way `with mesh`, and would refuse to place Variables eagerly.
    """
    from .meshes import AUTO, EXPLICIT, MESHES

    with MESHES[request.param](), nnx.use_eager_sharding(request.param != "with mesh"):
        yield EXPLICIT if "explicit" in request.param else AUTO


@pytest.fixture
def auto_mesh():
    from .meshes import AUTO

    with jax.set_mesh(AUTO):
        yield AUTO
