"""Cancels a transfer over HTTP, follows it and waits for its end: `python client.py QUEUE REASON`.

Needs xferq's package, and neither Kafka nor a setting but where the API is. QUEUE is an xfer queue's name.
"""

import os
import sys

from api.client import ApiClient
from streams.errors import Refused, Unavailable

URL = os.environ.get("XFERQ_API_URL", "http://127.0.0.1:8000")


def main(queue: str, reason: str) -> None:
    """Cancel, and print how it goes on."""
    with ApiClient(URL) as api:  # user=("name", "password"), tls=ssl.create_default_context(...)
        # An id of one's own makes it the same cancel, however often this is run: api.cancel(queue, reason, id="c1").
        id = api.cancel(queue, reason)
        for status in api.statuses_until_done(id):
            print(f"{status.state}: {status.restored} restored", flush=True)
        done = api.wait(id, timeout_s=60)  # or at once, without following it
    if done.state == "refused":
        raise SystemExit(f"refused: {done.detail}")
    print(f"{done.total} messages: {done.restored} restored, {done.returned} returned {done.returned_reasons}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (Refused, Unavailable) as error:
        raise SystemExit(str(error)) from None
