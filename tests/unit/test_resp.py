"""Commands as bytes, with and without the help of C."""

from enum import IntEnum, StrEnum

import pytest

from taskflow._servers.resp import pack, pack_plainly


class Lane(StrEnum):
    """Text with a name."""

    PRIMARY = "primary"


class Slots(IntEnum):
    """A number with a name."""

    MOST = 100


COMMANDS = [
    (("PING",), b"*1\r\n$4\r\nPING\r\n"),
    (
        ("SET", "clé", b"\x00\r\n"),
        b"*3\r\n$3\r\nSET\r\n$4\r\ncl\xc3\xa9\r\n$3\r\n\x00\r\n\r\n",
    ),
    (("X", 0, -12), b"*3\r\n$1\r\nX\r\n$1\r\n0\r\n$3\r\n-12\r\n"),
    (("X", 0.1, 1e16), b"*3\r\n$1\r\nX\r\n$3\r\n0.1\r\n$5\r\n1e+16\r\n"),
    (("X", "", b""), b"*3\r\n$1\r\nX\r\n$0\r\n\r\n$0\r\n\r\n"),
    (
        ("X", Lane.PRIMARY, Slots.MOST),
        b"*3\r\n$1\r\nX\r\n$7\r\nprimary\r\n$3\r\n100\r\n",
    ),
]


@pytest.mark.parametrize(("command", "packed"), COMMANDS)
def test_a_command_is_packed_as_the_protocol_has_it(command, packed):
    """Lengths count bytes, not letters; a value may hold any byte."""
    assert packed == pack_plainly(command)
    assert packed == pack(command)


@pytest.mark.parametrize("argument", [None, [1]])
def test_what_the_protocol_cannot_carry_is_refused(argument):
    """A None that arrived as the word would be found much later."""
    with pytest.raises(TypeError):
        pack(("X", argument))
