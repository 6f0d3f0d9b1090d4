import pytest
from known_world import known_world

from read_env.surrogate.world import World


@pytest.fixture(scope="session")
def known() -> World:
    return known_world()
