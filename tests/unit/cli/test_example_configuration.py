"""deploy/tollhouse.example.yaml is complete and says the defaults: the list of every setting."""

from pathlib import Path

import msgspec

from services.cli import settings
from services.runtime import config

EXAMPLE = Path(__file__).parents[3] / "deploy" / "tollhouse.example.yaml"


def test_the_example_configuration_is_every_setting_at_its_default():
    assert settings.load(EXAMPLE, {}, {}) == settings.load(None, {}, {})


def test_the_example_configuration_leaves_no_setting_out():
    loaded = settings.load(None, {}, {})
    defaults = {name: msgspec.to_builtins(section) for name, section in loaded._asdict().items()}
    named = dict(config.leaves(config.read_file(EXAMPLE)))
    assert set(named) == set(dict(config.leaves(defaults)))
