"""Every test here has the simulated accelerator."""

import pytest

from tests import simulated_device


@pytest.fixture(autouse=True)
def simulated():
    if reason := simulated_device.why_unavailable():
        pytest.skip(reason)
    with simulated_device.simulated_device():
        yield
