"""note: a report is stored whole or not at all, whatever stands in the record."""

import json
import math

import pytest

from taskflow._protocol.settle import ProgressReport, report_progress
from taskflow.errors import ServerError
from tests.support.keyspace import NOW

LARGEST = 1.7976931348623e308


def report(stage, held, number, **facts):
    """Store a report of *held*."""
    what = ProgressReport(number, **facts)
    return stage.send(
        report_progress(stage.keys, held.id, held.token, what, now_ms=NOW)
    )


def usage(stage):
    """Read what is stored of the usage."""
    return json.loads(stage.dump()["task:t1"]["usage"])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_beyond_a_float_is_the_largest_there_is(stage, sign):
    """The other facts of the report are stored with it, and so are later ones."""
    (held,) = stage.claimed("t1")
    most = {"tokens": sign * 1.7e308, "pages": 1.0}
    words = [
        report(stage, held, 1, usage=most),
        report(stage, held, 2, usage=most, progress=b'{"done":2}', checkpoint=b"7"),
        report(stage, held, 3, usage={"tokens": -sign * 1.0, "pages": 2.0}),
    ]
    record = stage.dump()["task:t1"]

    assert ["OK", "OK", "OK"] == words
    assert {"tokens": sign * LARGEST, "pages": 4.0} == usage(stage)
    assert ('{"done":2}', "7") == (record["progress"], record["checkpoint"])


@pytest.mark.parametrize(
    "stored", ["[1", "theirs", "null", "7", '{"tokens":"x","other":1e999}', "[1]", ""]
)
def test_a_usage_that_cannot_be_read_does_not_refuse_the_next(stage, stored):
    """What makes sense of it is kept."""
    (held,) = stage.claimed("t1")
    stage.client.hset("task:t1", "usage", stored)

    assert "OK" == report(stage, held, 1, usage={"tokens": 3.0}, progress=b"{}")
    assert 3.0 == usage(stage)["tokens"]
    assert all(map(math.isfinite, usage(stage).values()))
    assert "{}" == stage.dump()["task:t1"]["progress"]


def test_a_report_whose_chunks_cannot_be_stored_leaves_nothing(stage):
    """And can be stored when the foreign key is gone."""
    (held,) = stage.claimed("t1")
    stage.client.set("task:t1:events", "theirs")
    before = stage.dump()
    facts = {"progress": b"{}", "checkpoint": b"7", "chunks": ("one",)}
    with pytest.raises(ServerError, match="WRONGTYPE"):
        report(stage, held, 1, **facts)

    assert before == stage.dump()
    assert "OK" == report(stage, held, 1, annotations={"page": "1"})
    stage.client.hdel("task:t1", "noted", "note:page")
    stage.client.delete("task:t1:events")
    assert "OK" == report(stage, held, 1, **facts)
