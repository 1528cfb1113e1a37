"""What the description allows and the API does not, because no schema says it; and what would take too long."""

import re
import time

import schemathesis

SHORT_MS = 100
MAX_TTL_MS = 7 * 24 * 3_600 * 1_000
MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}


def fitting(text, most):
    """Names are bounded in bytes, of which a schema counts characters: four bytes are the most one has."""
    if isinstance(text, str) and len(text) <= most < len(text.encode("utf-8", "surrogatepass")):
        return text[: most // 4]
    return text


def uid(value):
    """A uid is no 1.0 either, which JSON Schema takes for an integer."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return fitting(value, 128)


def ttl(value):
    """At most seven days, in whatever unit."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    time_said = re.fullmatch(r"([0-9]+)(ms|s|m|h)", value, re.ASCII) if isinstance(value, str) else None
    if time_said and int(time_said[1]) * MS[time_said[2]] > MAX_TTL_MS:
        return "1h"
    return value


FIELDS = {"uid": uid, "ttl": ttl, "id": lambda value: fitting(value, 128), "token_id": lambda value: fitting(value, 256)}


def mend(request, path):
    """Mends one object of a body in place."""
    for field, mended in FIELDS.items():
        if field in request:
            request[field] = mended(request[field])
    if path == "/v1/tokens" and request.get("ttl") in (0, *(f"0{unit}" for unit in MS)):
        # A token lasts a second at least.
        request["ttl"] = 1
    if isinstance(request.get("uids"), list):
        request["uids"] = [uid(one) for one in request["uids"]]
    if request.get("wait") == "acked":
        if "uids" in request:
            # For a single `uid` only.
            request["wait"] = "written"
        else:
            # A push that waits for acknowledgements waits as long as it asks, up to a minute: here it asks for less.
            timeout = request.get("timeout_ms")
            if timeout is None or isinstance(timeout, int) and timeout > SHORT_MS:
                request["timeout_ms"] = SHORT_MS
    if isinstance(request.get("before"), (int, float)):
        # Not in the future, and not beside the name of a single token.
        request["before"] = min(request["before"], int(time.time()))
        if isinstance(request.get("token_id"), str):
            del request["token_id"]
    if isinstance(request.get("client_id"), str):
        # A client has to be configured.
        del request["client_id"]


@schemathesis.hook
def before_call(context, case, kwargs):
    """Whatever phase made the case; it stays as right or wrong as it was by the description."""
    for request in case.body if isinstance(case.body, list) else [case.body]:
        if isinstance(request, dict):
            mend(request, case.operation.path)
    for name in ("uid", "group"):
        if name in (case.path_parameters or {}):
            case.path_parameters[name] = fitting(case.path_parameters[name], 128)
    query = case.query or {}
    if "uid" in query:
        query["uid"] = fitting(query["uid"], 128)
    if isinstance(query.get("cursor"), str):
        # A cursor is a name the server has given; its shape is not promised.
        del query["cursor"]
