"""How a worker names its claims."""

from taskflow._protocol.claim import LaneShare
from taskflow._protocol.keys import Keys
from taskflow._worker.batches import ClaimRequest, ClaimRequests, ClaimSettings

SETTINGS = ClaimSettings(
    Keys(), "worker-1", 15.0, LaneShare(0.3, warning=1000, critical=5000, max_age_ms=1)
)
NONCE = 3
"""Where the nonce stands among the arguments of the script."""


def test_a_worker_that_is_run_again_claims_under_new_names() -> None:
    """Else the server would answer with the tasks of the run before."""
    nonces = {
        ClaimRequests(SETTINGS, 0)
        .operation(ClaimRequest(1), most_bytes=1, now_ms=0)
        .args[NONCE]
        for _ in range(50)
    }

    assert 50 == len(nonces)
