"""What the description allows and the API does not, because no schema says it; and what would take too long."""

import time

import schemathesis

SHORT_MS = 100


def fitting(text, most):
    """Names are bounded in bytes, of which a schema counts characters: four bytes are the most one has."""
    if isinstance(text, str) and len(text) <= most < len(text.encode("utf-8", "surrogatepass")):
        return text[: most // 4]
    return text


def whole(value):
    """A 1.0 is no integer to the API, in any field: JSON Schema takes it for one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def uid(value):
    return fitting(whole(value), 128)


FIELDS = {"uid": uid, "id": lambda value: fitting(value, 128), "token_id": lambda value: fitting(value, 256)}


def mend(request):
    """Mends one object of a body in place."""
    for field, value in request.items():
        # What is pushed may be any JSON.
        if field != "data":
            request[field] = whole(value)
    for field, mended in FIELDS.items():
        if field in request:
            request[field] = mended(request[field])
    if isinstance(request.get("uids"), list):
        request["uids"] = [uid(one) for one in request["uids"]]
    if request.get("wait") == "acked":
        if "uids" in request:
            # For one person only, whom `uids` may name several times.
            request["wait"] = "written"
        else:
            # A push that waits for acknowledgements waits as long as it asks, up to a minute: here it asks for less.
            timeout = request.get("timeout_ms")
            if timeout is None or isinstance(timeout, int) and timeout > SHORT_MS:
                request["timeout_ms"] = SHORT_MS
    if isinstance(request.get("before"), (int, float)):
        # Not in the future.
        request["before"] = min(request["before"], int(time.time()))
    if isinstance(request.get("client_id"), str):
        # A client has to be configured.
        del request["client_id"]


@schemathesis.hook
def before_call(context, case, kwargs):
    """Whatever phase made the case; it stays as right or wrong as it was by the description."""
    for request in case.body if isinstance(case.body, list) else [case.body]:
        if isinstance(request, dict):
            mend(request)
    for name in ("uid", "group"):
        if name in (case.path_parameters or {}):
            case.path_parameters[name] = fitting(case.path_parameters[name], 128)
    query = case.query or {}
    for name, value in query.items():
        query[name] = whole(value)
    if "uid" in query:
        query["uid"] = fitting(query["uid"], 128)
    if isinstance(query.get("cursor"), str):
        # A cursor is a name the server has given; its shape is not promised.
        del query["cursor"]
