"""Settings of a plugin or a host are read by the library's rules."""

import pytest
from attrs import frozen

from taskflow.errors import ConfigurationError
from taskflow.settings import Checked, Secret, WholeNumber, Words, load, option

KEY = "open-sesame"


@frozen
class MailSettings(Checked):
    """Settings with a secret, a list and a number."""

    token: str | None = option(None, Secret(r"\w+", "letters and digits"), "MAIL_TOKEN")
    hosts: tuple[str, ...] = option(
        (), Words(r"[a-z.]+", "names of hosts"), "MAIL_HOSTS"
    )
    port: int = option(25, WholeNumber(1, 65535), "MAIL_PORT")


def test_a_class_of_ones_own_is_read_from_the_environment():
    """The name with our prefix wins, blanks around items do not matter."""
    environ = {"MAIL_HOSTS": "a.b, c.d", "MAIL_PORT": "1", "TASKFLOW_MAIL_PORT": "2"}

    assert MailSettings(None, ("a.b", "c.d"), 2) == load(MailSettings, environ)


def test_a_file_is_read_too_and_the_environment_wins(tmp_path):
    """As for the library's own settings."""
    dotenv = tmp_path / ".env"
    dotenv.write_text("MAIL_PORT=3\nMAIL_TOKEN=abc\n")

    loaded = load(MailSettings, {"MAIL_PORT": "4"}, dotenv=dotenv)
    assert (4, "abc") == (loaded.port, loaded.token)


def test_all_mistakes_are_listed_and_no_secret_is_shown():
    """Each with its variable and its bound; a list by the number of the item."""
    environ = {"MAIL_TOKEN": f"{KEY}!", "MAIL_HOSTS": f"a,{KEY}", "MAIL_PORT": "0"}
    with pytest.raises(ConfigurationError) as caught:
        load(MailSettings, environ)

    assert KEY not in str(caught.value)
    assert [
        "MAIL_TOKEN=<not shown>: must be letters and digits",
        "MAIL_HOSTS=<not shown>: must be names of hosts (number 2 is not)",
        "MAIL_PORT='0': must be a whole number from 1 to 65535",
    ] == list(caught.value.problems)


def test_secrets_stay_out_of_the_repr():
    """Also where they are right."""
    shown = repr(MailSettings(token=KEY.replace("-", ""), hosts=("secret",)))

    assert "sesame" not in shown
    assert "secret" not in shown


@pytest.mark.parametrize("value", [3, "a,,b", b"a"])
def test_what_is_no_list_is_refused(value):
    """A constructor is as strict as the environment."""
    with pytest.raises(ConfigurationError, match="hosts"):
        MailSettings(hosts=value)
