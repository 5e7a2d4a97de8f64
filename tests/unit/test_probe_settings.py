"""The probe of the API asks where the API listens."""

from attrs import fields

from taskflow.cli.health import Listening
from taskflow_summarize._api_settings import ApiSettings


def test_the_probe_reads_host_and_port_as_the_service_does() -> None:
    """By the same variables, within the same bounds, with the same defaults."""
    served = {each.name: each for each in fields(ApiSettings)}

    for field in fields(Listening):
        there = served[field.name]
        assert there.metadata == field.metadata
        assert there.default == field.default
