"""Both sides, once for every module."""

import pytest

from tests.conformance.sides import Sides


@pytest.fixture(scope="module")
def module_sides(tmp_path_factory):
    with Sides.running(tmp_path_factory.mktemp("spool")) as running:
        yield running


@pytest.fixture
def sides(module_sides):
    module_sides.level()
    return module_sides
