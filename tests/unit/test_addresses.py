"""Addresses of servers: what is understood, what is refused, and what is never shown."""

import traceback
from pathlib import Path

import pytest

from taskflow import TaskFlow
from taskflow._servers.from_url import open_server
from taskflow._servers.redis import RedisServer
from taskflow._settings import mask_url
from taskflow.errors import ConfigurationError, ServerRefusedError, TaskFlowError

MISSPELT = [
    "redis:///:hunter2@db/0",
    "redis:////worker:hunter2@db",
    "redis:/:hunter2@db",
    "redis:hunter2@db",
    "redis//worker:hunter2@db",
    "redis ://:hunter2@db",
    "redis:\\\\:hunter2@db",
    "redis;//:hunter2@db",
    " REDIS://:hunter2@db\n",
    "RediSS://:hunter2@db:port",
    "redis://hunter2@db:6379",
    "redis://hunter2:@db",
    "redis://:hunter2/0",
    "redis://worker:hunter2/0",
    "redis://:hun@hunter2@db/x",
    "redis://:hun/hunter2@db",
    "redis://:hun?hunter2@db",
    "redis://:hun#hunter2@db",
    "redis://user:hun?x=hunter2@db",
    "redis://:hunter2%40db/0",
    "redis://user%3Ahunter2@db/x",
    "redis://db/0?%70assword=hunter2",
    "redis://db/0?pa%73sword=hunter2&nonsense=1",
    "redis://db/0?%2570assword=hunter2",
    "redis://db/0?passwd=hunter2",
    "redis://db/0?Password=hunter2",
    "redis://db/0?auth=hunter2",
    "redis://db/0?hunter2",
    "redis://db/0?password%3Dhunter2",
    "redis://db/0?password=hun&hunter2",
    "redis://db/0?password=hun&hunter2=x",
    "redis://db/0?db=x;password=hunter2",
    "redis://db/0?client_name=a%26password%3Dhunter2 ",
    "redis://db/0?password=hunter2#x",
    "redis://db/0#password=hunter2",
    "redis://db/0%3Fpassword=hunter2",
    "redis://db/0;password=hunter2",
    "redis://db/0&password=hunter2",
    "redis+sentinel://:hunter2@a:1,b:2",
    "redis+sentinel://a:1,:hunter2@b:2/m/x",
    "redis+sentinel://a/m?sentinel_passwd=hunter2",
    "redis+sentinel://a/m?sentinel_password=hunter2&nonsense=1",
    "sentinel://:hunter2@a:1;sentinel://:hunter2@b:2",
    "redis+cluster://u:hunter2@a,b/1",
    "rediss://:hunter2@db?ssl_password=hunter2&ssl_keyfile=/nowhere",
    "unix:///run/r.sock?Password=hunter2",
    "unix:///run/r.sock&password=hunter2#",
    "unix:///run/r.sock%3Fpassword=hunter2#",
    "unix:///:hunter2@/run/r.sock#",
    "unix://hunter2@run/r.sock",
    "UNIX:/run/r.sock?password=hunter2",
    "amqp://user:hunter2@db//",
    "http://user:hunter2@db/",
    "worker:hunter2@db:6379",
]


def printed(error: BaseException) -> str:
    """Return everything that a traceback shows of *error*, its causes included."""
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("url", MISSPELT)
def test_the_password_of_a_misspelt_address_is_shown_nowhere(url: str) -> None:
    """Neither masked, nor in an error and its causes, nor in what a flow says."""
    flow = TaskFlow(url, prefix="{a}:")
    shown = [mask_url(url), flow.connection.display, repr(flow), repr(flow.connection)]
    try:
        shown += [flow.connection.server.display, repr(flow.connection.server)]
    except TaskFlowError as error:
        shown += [str(error), repr(error), printed(error)]

    assert [] == [text for text in shown if "hunter2" in text]


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379/0",
        "unix:///run/a@b.sock",
        "memory://",
        "redis://[::1]:1/2",
    ],
)
def test_an_address_without_a_password_is_shown_as_it_is(url: str) -> None:
    """Host, port, path and harmless options stay readable."""
    assert url == mask_url(url)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("REDIS://h", {"host": "h"}),
        ("  redis://h/3\n", {"db": 3}),
        ("valkey://h:1", {"host": "h", "port": 1}),
        ("redis+socket:///run/r?virtual_host=3", {"path": "/run/r", "db": 3}),
        ("socket:///run/r", {"path": "/run/r"}),
        ("redis://[fe80::1]:7/0", {"host": "fe80::1", "port": 7}),
        ("redis://:p@ss@h", {"password": "p@ss"}),
        ("redis://:p%40ss@h?db=2", {"password": "p@ss", "db": 2}),
        ("redis://h?socket_keepalive=off", {"socket_keepalive": False}),
        ("redis://bücher.example", {"host": "bücher.example"}),
        ("rediss://h?ssl_min_version=TLSv1.3", {"ssl_min_version": 772}),
        ("valkeys://h", {"ssl_check_hostname": True}),
        *(
            (f"rediss://h?ssl_cert_reqs={said}", {"ssl_cert_reqs": "none"})
            for said in ("none", "NONE", "CERT_NONE", "ssl.CERT_NONE", "cert_none")
        ),
        ("rediss://h?ssl_cert_reqs=CERT_REQUIRED", {"ssl_cert_reqs": "required"}),
        ("rediss://h?ssl_cert_reqs=optional", {"ssl_cert_reqs": "optional"}),
    ],
)
def test_the_spellings_of_others_are_understood(
    url: str, options: dict[str, object]
) -> None:
    """Those of Celery, Valkey and Heroku, and what people write."""
    server = open_server(url)
    assert isinstance(server, RedisServer)
    found = server._pool.connection_kwargs

    assert options == {name: found[name] for name in options}
    server.link(), server.async_link()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis:///:pw@h", "two slashes"),
        ("redis://h/abc", "number of a database"),
        ("redis://h/0/1", "number of a database"),
        ("redis://h/-1", "number of a database"),
        ("redis://h/1.5", "number of a database"),
        ("redis://h/%31", "number of a database"),
        ("redis://h?db=abc", "'db' must be a whole number"),
        ("redis://h?db=-1", "'db' must be a whole number"),
        ("redis://h?db=99999999999", "'db' must be a whole number"),
        ("redis://h:0", "1 to 65535"),
        ("redis://h:65536", "1 to 65535"),
        ("redis://h:99999999", "1 to 65535"),
        ("redis://h:-1", "1 to 65535"),
        ("redis://h:٣", "1 to 65535"),
        ("redis://::1:6379/0", "in brackets"),
        ("redis://[::1/0", "in brackets"),
        ("redis://[nonsense]:1", "address of IPv6"),
        ("redis://[::1]x:1", "in brackets"),
        ("redis://a,b", "several hosts"),
        ("redis://a:1;redis://b:1", "several hosts|number"),
        ("redis://a..b", "must be a name"),
        (f"redis://{'a' * 64}.example", "must be a name"),
        ("redis://a b", "must be a name"),
        ("redis://*", "must be a name"),
        ("redis://h?socket_timeout=nan", "seconds, above 0"),
        ("redis://h?socket_timeout=inf", "seconds, above 0"),
        ("redis://h?socket_connect_timeout=1e300", "seconds, above 0"),
        ("redis://h?max_connections=0", "a whole number from 1"),
        ("redis://h?client_name=a%20b", "printable"),
        ("redis://h?max_conections=1", "did you mean 'max_connections'"),
        ("redis://h?parser_class=x", "none of db, "),
        ("redis://h?credential_provider=x", "none of db, "),
        ("redis://h?encoding=utf-9", "none of db, "),
        ("redis://h?redis_connect_func=x", "none of db, "),
        ("redis://h?ssl=true", "rediss://"),
        ("redis://h?ssl_cert_reqs=none", "rediss://"),
        ("rediss://h?ssl_cert_reqs=CERT_MAYBE", "none, optional or required"),
        ("rediss://h?ssl_check_hostname=perhaps", "true or false"),
        ("rediss://h?ssl_min_version=1.1", "TLSv1.2"),
        (f"rediss://h?ssl_ca_certs={__file__}", "cannot be used"),
        (f"rediss://h?ssl_certfile={__file__}", "cannot be used"),
        ("rediss://h?ssl_ciphers=nonsense", "cannot be used"),
        ("rediss://h?ssl_ca_data=nonsense", "cannot be used"),
        ("rediss://h?ssl_exclude_verify_flags=NONSENSE", "cannot be used"),
        ("unix://run/redis.sock", "whole path"),
        ("unix://./redis.sock", "whole path"),
        ("unix://", "whole path"),
        ("unix:///run/a%00b", "whole path"),
        ("redis://h\tx", "printed"),
        ("redis://\ud800", "printed"),
        ("sentinel://a:1;sentinel://b:1", r"redis\+sentinel://HOST:PORT"),
        ("redis-sentinel://a/m", r"redis\+sentinel://HOST:PORT"),
        ("redis+tls://h", "rediss://"),
        ("redis+sentinel://a:70000/m", "1 to 65535"),
        ("redis+sentinel://a..b/m", "must be a name"),
        ("redis+cluster://::1", "in brackets"),
        (b"redis://h", "must be text, not bytes"),
        (6379, "must be text, not int"),
        ("embedded://~nobody-of-this-name/x", "home"),
        ("embedded://a\0b", "printed"),
    ],
)
def test_what_cannot_be_an_address_is_refused_in_a_sentence(
    url: object, said: str
) -> None:
    """At once, by an error of the library, and not by one of what it is built of."""
    with pytest.raises(ConfigurationError, match=said):
        open_server(url, prefix="{a}:")  # type: ignore[arg-type]


def test_an_encrypted_key_without_its_password_asks_nobody(tmp_path: Path) -> None:
    """OpenSSL would ask at the terminal, and a service would hang there."""
    key = tmp_path / "key.pem"
    key.write_text(
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
        "DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\nAAAA\n"
        "-----END RSA PRIVATE KEY-----\n"
    )
    with pytest.raises(ConfigurationError, match="cannot be used"):
        open_server(f"rediss://h?ssl_certfile={key}")


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_ca_path"])
@pytest.mark.parametrize("kind", ["rediss://h?", "rediss+sentinel://h/m?"])
def test_a_file_that_is_not_there_is_named_at_the_first_use(
    tmp_path: Path, option: str, kind: str
) -> None:
    """It may be mounted after the start; redis-py says that nothing can be reached."""
    missing = tmp_path / "tls.pem"
    flow = TaskFlow(f"{kind}{option}={missing}", prefix="{a}:")
    with pytest.raises(ServerRefusedError, match=r"not there: .*/tls\.pem"):
        flow.queues.status()


class NotText:
    """Such as an address of pydantic's, which is no text."""

    def __str__(self) -> str:
        return "redis://:hunter2@h"


def test_an_address_that_is_no_text_is_shown_masked_too() -> None:
    """In the repr of a flow, before it is refused."""
    flow = TaskFlow(NotText())  # type: ignore[arg-type]
    with pytest.raises(
        ConfigurationError, match="must be text, not NotText"
    ) as refused:
        flow.queues.status()

    assert "hunter2" not in repr(flow) + flow.connection.display + str(refused.value)
