"""What schemathesis is not to do, though the description allows it."""

import schemathesis

SHORT_MS = 100


@schemathesis.hook
def map_body(context, body):
    """A push that waits for acknowledgements waits as long as it asks, up to a minute: here it asks for less."""
    for push in body if isinstance(body, list) else [body]:
        if isinstance(push, dict) and push.get("wait") == "acked":
            timeout = push.get("timeout_ms")
            if timeout is None or isinstance(timeout, int) and timeout > SHORT_MS:
                push["timeout_ms"] = SHORT_MS
    return body
