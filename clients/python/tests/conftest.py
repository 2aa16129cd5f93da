"""One server per test module."""

import pytest

from harness import Server


@pytest.fixture(scope="module")
def server():
    running = Server()
    yield running
    running.close()
