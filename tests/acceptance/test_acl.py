"""Each of three users may do what it is for, and no more than its page says."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from taskflow import Finding, TaskFlow, TaskState
from taskflow._client.reset import pass_over
from taskflow._protocol import scripts
from taskflow._servers.redis import RedisServer
from taskflow.errors import ServerRefusedError, TaskNotFoundError
from tests.support import acl, chaos_app, population
from tests.support.processes import Deployment, wait_until

LUA = Path(scripts.__file__).parent / "lua"
WRITES = {
    "a task": lambda flow, _: flow.enqueue(chaos_app.works.call(0.0)),
    "a cancel": lambda flow, task_id: flow.tasks.cancel(task_id),
    "a deletion": lambda flow, task_id: flow.tasks.delete(task_id),
    "a pause": lambda flow, _: flow.queues.pause("retry"),
    "a steer": lambda flow, _: flow.upstreams.force_open("task:works"),
}
# An ACL knows commands and not scripts: who may settle a task may also requeue one.
DEEDS_OF_PEOPLE = {
    "cancel": lambda flow, ids: flow.tasks.cancel(ids["waiting"]),
    "requeue": lambda flow, ids: flow.tasks.retry(ids["waiting"]),
    "run now": lambda flow, ids: flow.tasks.retry(ids["scheduled"]),
    "delete": lambda flow, ids: flow.tasks.delete(ids["keyed"]),
    "edit": lambda flow, ids: flow.dlq.edit(ids["letter 1"], number=7),
    "requeue a dead letter": lambda flow, ids: flow.dlq.requeue(ids["letter 1"]),
    "discard a group": lambda flow, _: flow.dlq.discard(name="dies"),
    "pause": lambda flow, _: flow.queues.pause("primary"),
    "pause a schedule": lambda flow, _: flow.schedules.pause("hourly"),
    "hold": lambda flow, _: flow.upstreams.force_open("task:add"),
    "steer": lambda flow, _: flow.upstreams.force_close("api"),
    "drain": lambda flow, _: flow.workers.drain(population.WORKER),
}
OVERVIEWS = {
    "list what waits": lambda flow: flow.tasks.list(),
    "read the audit log": lambda flow: flow.audit_log.list(),
    "look for orphans": lambda flow: flow.tasks.requeue_orphaned(),
    "reset": lambda flow: flow.connection.run(pass_over(flow.connection, delete=True)),
}
FOREIGN = {
    "another's key": lambda client: client.get("session:1"),
    "all data": lambda client: client.flushall(),
    "all keys": lambda client: client.keys("*"),
    "the configuration": lambda client: client.config_get("requirepass"),
    "a script of one's own": lambda client: client.eval("return 1", 0),
    "another channel": lambda client: client.publish("theirs", "x"),
    "the users": lambda client: client.acl_list(),
    "a shutdown": lambda client: client.shutdown(),
}

# They are loaded as ours are; the key is named in the call, or only in the script.
OWN_SCRIPTS = {
    "read another's key": "return redis.call('GET', 'session:1')",
    "write another's key": "return redis.call('SET', 'session:1', 'mine')",
    "call what was not granted": "return redis.call('KEYS', '*')",
    "publish elsewhere": "return redis.call('PUBLISH', 'theirs', 'x')",
}


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Give a server that knows the three users; the flow is an administrator's."""
    app = Path(chaos_app.__file__).read_text(encoding="utf-8")
    made = Deployment(tmp_path, app, chaos_app.registry)
    client = made.flow.connection.server.sync_client()
    acl.let_in(client)
    client.set("session:1", "secret")
    client.close()
    yield made
    made.close()


@pytest.fixture
def flow_of(deployment: Deployment) -> Iterator[Callable[[str], TaskFlow]]:
    """Give a flow of each user."""
    made: list[TaskFlow] = []

    def make(kind: str) -> TaskFlow:
        url = acl.as_user(deployment.url, kind)
        made.append(TaskFlow(url, registry=chaos_app.registry))
        return made[-1]

    yield make
    for each in made:
        each.close()


def worker(deployment: Deployment) -> Any:
    """Start a worker as its user."""
    return deployment.worker("--url", acl.as_user(deployment.url, "worker"))


def is_dead(handle: Any) -> bool:
    """Tell whether a task is a dead letter."""
    return handle.info().state is TaskState.DLQ


def has_died(process: Any) -> bool:
    """Tell whether a process has ended."""
    return process.poll() is not None


def test_a_worker_and_the_api_do_their_work(
    deployment: Deployment, flow_of: Callable[[str], TaskFlow]
) -> None:
    """Enqueue, run, cancel, requeue, delete, pause, steer, look and mend."""
    process = worker(deployment)
    flow = flow_of("api")
    assert 1 == flow.enqueue(chaos_app.works.call(0.0)).result(timeout=30)
    later = flow.enqueue(chaos_app.works.options(delay=600).call(0.0))
    assert later.cancel() is True
    flow.tasks.retry(later.id)
    assert 1 == later.result(timeout=30)
    flow.queues.pause("primary")
    waiting = flow.enqueue(chaos_app.works.call(0.0))
    flow.queues.resume("primary")
    assert 1 == waiting.result(timeout=30)
    assert flow.tasks.delete(waiting.id) is True
    pill = flow.enqueue(chaos_app.pill.call(0.0))
    while True:
        wait_until(lambda running=process: has_died(running) or is_dead(pill))
        if is_dead(pill):
            break
        process = worker(deployment)
    assert 1 == flow.dlq.discard(pill.id)
    severities = {each.check: each.severity for each in flow.doctor(repair=True)}
    assert "ok" == severities["homes"]
    assert "NOPERM" not in deployment.said(process)
    process.terminate()
    assert 0 == process.wait(30)


def test_a_reader_sees_all_and_changes_nothing(
    deployment: Deployment, flow_of: Callable[[str], TaskFlow]
) -> None:
    """Each write is refused by name; what was there is there."""
    handles = deployment.flow.enqueue_many([chaos_app.works.call(0.0)] * 3)
    flow = flow_of("reader")

    assert 3 == flow.queues.status().states[TaskState.PENDING]
    assert 3 == len(flow.tasks.list().items)
    assert handles[0].id == flow.tasks.get(handles[0].id).id
    assert [] == [*flow.dlq.list().items, *flow.dlq.groups(), *flow.workers.list()]
    assert [] == [*flow.upstreams.status(), *flow.schedules.list()]
    assert ["ok"] == [each.severity for each in homes(flow.doctor())]
    for name, write in WRITES.items():
        with pytest.raises(ServerRefusedError, match="refused '"):
            write(flow, handles[0].id)
        assert 3 == deployment.count(TaskState.PENDING), name


def test_the_user_of_workers_can_do_what_people_decide_and_see_less(
    deployment: Deployment,
) -> None:
    """It is as good as trusted with tasks, and cannot go through or delete everything."""
    with TaskFlow(deployment.url, registry=population.registry) as made:
        ids = asyncio.run(population.populate(made))
        letters = [each.id for each in made.dlq.list().items if each.name == "dies"]
    ids["letter 1"] = letters[0]
    url = acl.as_user(deployment.url, "worker")

    with TaskFlow(url, registry=population.registry) as flow:
        for name, look in OVERVIEWS.items():
            with pytest.raises(ServerRefusedError, match="refused '"):
                raise AssertionError((name, look(flow)))
        assert [] == homes(flow.doctor(repair=True))
        for deed in DEEDS_OF_PEOPLE.values():
            deed(flow, ids)

        assert flow.tasks.get(ids["waiting"]).state is TaskState.PENDING
        assert flow.tasks.get(ids["scheduled"]).state is TaskState.PENDING
        assert flow.tasks.get(letters[0]).state is TaskState.PENDING
        assert flow.tasks.get(letters[1]).state is TaskState.FAILED
        with pytest.raises(TaskNotFoundError):
            flow.tasks.get(ids["keyed"])


def homes(findings: tuple[Finding, ...]) -> list[Finding]:
    """Give what was found about the homes."""
    return [each for each in findings if each.check == "homes"]


@pytest.mark.parametrize("kind", acl.KINDS)
def test_nobody_may_do_what_is_not_ours(deployment: Deployment, kind: str) -> None:
    """Neither with others' keys and channels, nor with the server."""
    server = RedisServer(acl.as_user(deployment.url, kind))
    client = server.sync_client()
    for name, deed in FOREIGN.items():
        with pytest.raises(NoPermissionError):
            raise AssertionError((name, deed(client)))
    for name, script in OWN_SCRIPTS.items():
        sha = client.script_load(script)
        for keys in ((), ("session:1",)):
            with pytest.raises(
                ResponseError, match=r"permission|ACL|can't (access|run|publish)"
            ):
                raise AssertionError((name, client.evalsha(sha, len(keys), *keys)))
    client.close()
    server.close()


def test_the_file_grants_what_the_scripts_call_and_no_more(real_stage: Any) -> None:
    """A command that a script begins to call, or stops to, changes the file."""
    known = set(real_stage.client.command())
    words = {
        each.lower()
        for path in LUA.rglob("*.lua")
        for each in re.findall(r"'([A-Z]+)'", re.sub(r"--.*", "", path.read_text()))
    }
    ours = {
        *("hello", "auth", "ping", "select", "client|setname"),
        *("evalsha", "script|load", "subscribe", "unsubscribe", "wait"),
    }
    granted = {
        kind: {each[1:] for each in acl.lines()[name] if each[0] == "+"}
        for kind, name in acl.KINDS.items()
    }

    assert words & known | ours == granted["api"]
    assert granted["worker"] - {"bzpopmin"} < granted["api"]
    assert granted["reader"] < granted["api"]
