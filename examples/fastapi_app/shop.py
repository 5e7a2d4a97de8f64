"""A host application: tasks of its own, and the task API mounted beside its routes.

    uvicorn shop:app --port 8000
    taskflow-worker --app shop:flow

The access function is the shop's: whoever is signed in as staff may act, a monitor
may look, and nobody else sees anything.
"""

from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Request

import taskflow
import taskflow_summarize
from taskflow_summarize.routers import Grant, Level

flow = taskflow.TaskFlow()
taskflow.use(flow)

STAFF = {"token-of-ada": "ada"}  # in real life: your sessions, your identity provider


@taskflow.task(name="send_invoice", retry=taskflow.RetryPolicy(max_retries=5))
async def send_invoice(ctx: taskflow.Context, order: int, email: str) -> str:
    """Send an invoice; `ctx.id` is the key by which the mail service drops repeats."""
    ctx.annotate(order=order)
    return f"invoice {order} to {email} ({ctx.id[:8]})"


def who(request: Request) -> Grant:
    """Say what a request for the task API may do, by the shop's own rules."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    if name := STAFF.get(token):
        return Grant(Level.ADMIN, name)
    if token == "monitor":  # noqa: S105 - an example
        return Grant(Level.READ, "monitor")
    return Grant(Level.NONE)


app = FastAPI(title="shop")
app.include_router(
    taskflow_summarize.create_router(
        flow,
        access=who,
        # The shop has a /health of its own.
        parts=("tasks", "queues", "dlq", "audit-log", "schedules"),
    ),
    prefix="/jobs",
)


@app.get("/health")
async def health() -> dict[str, str]:
    """Answer as the shop always did."""
    return {"shop": "open"}


@app.post("/orders/{order}/invoice", status_code=202)
async def invoice(
    order: int, email: Annotated[str, Header(alias="X-Email")]
) -> dict[str, str]:
    """Have an invoice sent; asked twice for one order, it is sent once."""
    if "@" not in email:
        raise HTTPException(422, "X-Email must be an address")
    once = send_invoice.options(key=f"order-{order}")
    handle = await once.aenqueue(order=order, email=email)
    return {"task_id": handle.id, "status": f"/jobs/api/v1/tasks/{handle.id}"}
