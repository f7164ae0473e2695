"""What the rating section may say."""

import pytest

from services.rating.config import RatingConfig
from services.runtime.config import ConfigFaults, decode


def test_the_defaults_are_on_loopback_with_the_built_in_prices():
    assert decode({}, {"rating": RatingConfig})["rating"] == RatingConfig(
        prices="", group_id="tollhouse.rating", host="127.0.0.1", port=4011
    )


def test_faults_are_reported_together():
    with pytest.raises(ConfigFaults) as caught:
        decode({"rating": {"group_id": "", "port": 70_000}}, {"rating": RatingConfig})
    assert caught.value.faults == (
        "rating.group_id: must not be empty",
        "rating.port: must lie between 0 and 65535",
    )
