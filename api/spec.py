"""The OpenAPI 3.1 document: what routes say of themselves, and what holds for all of them.

Problems, entity tags, pages, keys and rates are added in one place, as they are done in one place.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, get_args, get_origin

from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from api.auth import PUBLIC
from api.examples import Schema, example
from api.idempotency import CHANGING
from api.lists import MAX_LIMIT
from api.problems import MEDIA_TYPE
from api.representation import PARTIAL, declared_queries, model_fields

_JSON: Final = "application/json"
_DESCRIPTION: Final = """\
Bare-metal servers, found, taken in, imaged and handed out. Every refusal is a problem of RFC 9457
whose `remedy` can be typed. Lists are pages: follow `Link: <...>; rel="next"`. Send
`Idempotency-Key` with what must happen once, and `If-Match` with what must not have changed."""
TAGS: Final = {
    "health": "Whether this process, its database and Ironic answer.",
    "ca": "The certificate authority for remote callers.",
    "tokens": "Keys of callers over the network.",
    "projects": "Whose claims they are, and how much they may have.",
    "users": "People with a password of ours.",
    "sessions": "Logging in and out.",
    "credentials": "Logins of BMCs; no password ever comes out.",
    "images": "What can be put onto nodes.",
    "image intakes": "Disk images on their way in, and logins of registries they come from.",
    "events": "What happened, and who was told.",
    "webhooks": "Addresses that events are posted to.",
    "bmcs": "The BMCs that were found, and the servers behind them.",
    "discoveries": "Sweeps that find BMCs.",
    "nodes": "Ironic's nodes, with what Seed knows beside.",
    "observations": "What lists, leases and ramdisks said of servers.",
    "classes": "Kinds of servers, and what each must consist of.",
    "networks": "Networks that nodes get addresses of, VIPs, and who has which.",
    "layouts": "How nodes' NICs become bonds, VLANs and bridges.",
    "adoptions": "Taking over nodes of another Ironic.",
    "claims": "N nodes with an image on them, for a project.",
    "clusters": "Claimed nodes that became one thing: Kubernetes, or a swarm.",
    "overclouds": "Claimed nodes that an installer makes an OpenStack of.",
    "racks": "The rack plan, and the work in it.",
    "inventory": "What was handed out, as OpenSSH, Ansible and Prometheus read it.",
    "break-glass": "Raw Ironic for half an hour, on record.",
    "login": "How people log in here: what a client needs to know beforehand.",
}
_PROBLEMS: Final = {
    400: ("malformed", "the body nests deeper than 25 levels", "send a flatter JSON document"),
    401: ("unauthenticated", "there is no token in this request", "seed token list"),
    403: ("forbidden", "ci may not do this: it takes the role operator", "seed token list"),
    404: ("not-found", "there is no node 'web-9'", "See what there is: `seed node list`."),
    409: ("conflict", "there is a credential rack-a already", "choose another name, or PUT it"),
    412: ("precondition-failed", "/v1/bmcs/172.22.1.11 is not as you saw it any more",
          "Look again with GET /v1/bmcs/172.22.1.11, and send If-Match with its new ETag."),
    413: ("too-large", "the body is larger than 1024 KiB", "Part it: several smaller files."),
    415: ("unsupported-media-type", "the body is text/plain, and no JSON",
          "Send `Content-Type: application/json`."),
    422: ("invalid", "count: input should be at most 500", "seed claim create --help"),
    429: ("too-many-requests", "ci asks too often", "Ask again after Retry-After seconds."),
    503: ("ironic-unavailable", "Ironic does not answer", "seed status ironic"),
}  # fmt: skip
"""status -> code, detail and remedy of the example."""
_READING = (400, 401, 403, 404, 409, 422, 429, 503)
_LOGIN = (400, 401, 409, 412, 413, 415, 422, 429, 503)
_WRITING = tuple(sorted({*_READING, 412, 413, 415}))
_HEADERS: Final = {
    "ETag": "SHA-256 of this body; for If-Match and If-None-Match.",
    "Link": 'The next page, if there is one: `<...>; rel="next"` (RFC 8288).',
    "RateLimit": "What is left (draft-ietf-httpapi-ratelimit-headers).",
    "RateLimit-Policy": "How much it is: q requests in w seconds.",
    "Retry-After": "Seconds.",
    "X-Request-ID": "Names this request in the log; yours, if you sent one.",
}


def document(title: str, version: str, routes: Iterable[APIRoute]) -> Schema:
    """The whole document. `routes`: all that are in it."""
    shown = [route for route in routes if route.include_in_schema]
    spec: Schema = get_openapi(
        title=title,
        version=version,
        openapi_version="3.1.0",
        summary="A self-contained bare-metal undercloud",
        description=_DESCRIPTION,
        routes=shown,
    )
    models: Schema = spec.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        models.pop(name, None)
    models["Problem"] = _problem_schema()
    spec["components"] |= {
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "A token."},
            "basic": {"type": "http", "scheme": "basic", "description": "A token's name, and it."},
        },
        "headers": {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in _HEADERS.items()
        },
        "responses": {f"Problem{status}": _problem(status) for status in _PROBLEMS},
    }
    spec["security"] = [{"bearer": []}, {"basic": []}]
    spec["servers"] = [{"url": "/", "description": "This Seed"}]
    used = {tag for route in shown for tag in route.tags}
    spec["tags"] = [{"name": n, "description": t} for n, t in TAGS.items() if n in used]
    readable = {route.path for route in shown if "GET" in (route.methods or ())}
    for route, method, operation in _operations(spec, shown):
        _complete(route, method, operation, models, readable)
    return spec


def _operations(spec: Schema, routes: list[APIRoute]) -> Iterator[tuple[APIRoute, str, Schema]]:
    for route in routes:
        for method in sorted(route.methods or ()):
            yield route, method, spec["paths"][route.path_format][method.lower()]


def _complete(
    route: APIRoute, method: str, operation: Schema, models: Schema, readable: set[str]
) -> None:
    operation["operationId"] = route.name
    operation["summary"] = _summary(route)
    answers: Schema = operation["responses"]
    answers.pop("422", None)
    for answer in answers.values():
        _complete_answer(answer, models, route)
    if body := operation.get("requestBody"):
        _complete_body(body, models)
    if (method, route.path) in PUBLIC:
        operation["security"] = []
        for status in _LOGIN if method in CHANGING else (503,):
            answers[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
        return
    for status in _WRITING if method in CHANGING else _READING:
        answers[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    _arguments(route, method, operation, readable)


def _summary(route: APIRoute) -> str:
    """The docstring's first sentence, else the name in words."""
    first = (route.description or "").partition("\n")[0].strip()
    return (first.partition(". ")[0].rstrip(".") or route.name.replace("_", " ").capitalize())[:120]


def _complete_answer(answer: Schema, models: Schema, route: APIRoute) -> None:
    answer["headers"] = {
        name: {"$ref": f"#/components/headers/{name}"}
        for name in ("X-Request-ID", "RateLimit", "RateLimit-Policy")
    }
    content: Schema = answer.get("content", {})
    for kind, media in content.items():
        if "example" not in media:
            schema = media.get("schema") or {"type": "string"}
            media["example"] = example(schema, models) if kind == _JSON else "..."
    if "GET" in (route.methods or ()) and _JSON in content and ("GET", route.path) not in PUBLIC:
        answer["headers"]["ETag"] = {"$ref": "#/components/headers/ETag"}
        content[PARTIAL] = {"schema": _partial(route), "example": _part_of(content[_JSON])}
        if _many(route):
            answer["headers"]["Link"] = {"$ref": "#/components/headers/Link"}


def _many(route: APIRoute) -> bool:
    model = route.response_model or route.responses.get(200, {}).get("model")
    return get_origin(model) is list and bool(get_args(model))


def _partial(route: APIRoute) -> Schema:
    one: Schema = {"type": "object", "description": "The fields that were asked for."}
    return {"type": "array", "items": one} if _many(route) else one


def _part_of(media: Schema) -> Any:  # noqa: ANN401
    whole = media["example"]
    if isinstance(whole, list):
        return [dict(list(row.items())[:1]) for row in whole if isinstance(row, dict)]
    return dict(list(whole.items())[:1]) if isinstance(whole, dict) else {}


def _complete_body(body: Schema, models: Schema) -> None:
    for kind, media in body["content"].items():
        if kind == _JSON:
            media.setdefault("example", example(media["schema"], models, request=True))
        else:
            media.setdefault("schema", {"type": "string", "format": "binary"})
            media.setdefault("example", "serial,bmc mac\nCZJ1234567,52:54:00:11:00:01\n")


def _arguments(route: APIRoute, method: str, operation: Schema, readable: set[str]) -> None:
    has = operation.setdefault("parameters", [])
    for given in has:
        given.setdefault("description", f"The {given['name'].replace('_', ' ')}.")
    if method in CHANGING:
        has.append(_header("Idempotency-Key", "The same for each retry: what is done, once.",
                           {"type": "string", "pattern": "^[ -~]{1,255}$"}))  # fmt: skip
        if (route.path.rpartition(":")[0] if method == "POST" else route.path) in readable:
            has.append(_header("If-Match", "The noun's ETag as you saw it.", _ETAGS))
    elif _JSON in operation["responses"].get("200", {}).get("content", {}):
        operation["responses"]["304"] = {"description": "It is as you have it."}
        has.append(_header("If-None-Match", "The ETag that you have.", _ETAGS))
        has += _queries(route)


_ETAGS: Final = {"type": "string", "pattern": r'^(\*|(W/)?"[!#-~]{0,80}")$'}


def _header(name: str, text: str, schema: Schema) -> Schema:
    return {"name": name, "in": "header", "required": False, "description": text, "schema": schema}


def _queries(route: APIRoute) -> Iterator[Schema]:
    declared, known = declared_queries(route), sorted(model_fields(route))
    if not known:
        return
    one = "|".join(known)
    if "fields" not in declared:
        yield _query("fields", f"Only these, as {PARTIAL}.", {"pattern": f"^({one})(,({one}))*$"})
    if not _many(route) or "limit" in declared:
        return
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": MAX_LIMIT}
    yield _query("limit", "Rows on a page.", limit)
    yield _query("cursor", "Where the page begins: out of Link.", {"maxLength": 255})
    pattern = {"pattern": f"^-?({one})(,-?({one}))*$", "maxLength": 255}
    yield _query("sort", "By these, each with - from the end.", pattern)
    for name in known:
        if name not in declared:
            words = {"type": "array", "items": {"type": "string", "maxLength": 255}}
            yield _query(name, f"Only rows whose {name} is one of these.", words)


def _query(name: str, text: str, schema: Schema) -> Schema:
    kind = {"type": "string", **schema}
    return {"name": name, "in": "query", "required": False, "description": text, "schema": kind}


def _problem_schema() -> Schema:
    words = {
        "type": "urn:seed:problem: and the code",
        "title": "The same for every problem of this code.",
        "detail": "What happened, in one sentence.",
        "code": "One of a closed list.",
        "remedy": "What to do; often a command to be typed.",
        "request_id": "Names this request in the log.",
    }
    fields: Schema = {n: {"type": "string", "description": t} for n, t in words.items()}
    fields["status"] = {"type": "integer", "minimum": 400, "maximum": 599}
    reasons = "With the code no-capacity: node, and the rule that rejected it."
    fields["reasons"] = {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": reasons,
    }
    return {
        "type": "object",
        "title": "Problem",
        "description": "RFC 9457.",
        "properties": fields,
        "required": sorted({*words, "status"}),
    }


def _problem(status: int) -> Schema:
    code, detail, remedy = _PROBLEMS[status]
    title = code.replace("-", " ").capitalize()
    shown = {
        "type": f"urn:seed:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "remedy": remedy,
        "request_id": "0c5f4ec07c1b4f0e9f6e3a5d0f4d1c11",
    }
    media = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": shown}
    answer: Schema = {"description": title, "content": {MEDIA_TYPE: media}}
    names = ["X-Request-ID", *(["Retry-After"] if status in (429, 503) else [])]
    answer["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return answer
