"""The OpenAPI document: complete, its examples right, and the page that shows it is our own."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from pydantic import TypeAdapter

from api.app import ROUTERS, create_app
from api.auth import PUBLIC
from api.parts import Door, Parts
from api.roles import Role
from api.spec import TAGS
from tests.fakes.api import a_token, bearer, some_parts

ROUTES = {
    (method, route.path_format): route
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute) and route.include_in_schema
    for method in route.methods or ()
}
IDS = [" ".join(row) for row in sorted(ROUTES)]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return some_parts(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def web(parts: Parts) -> Iterator[TestClient]:
    token = bearer(a_token(parts, "reader", Role.VIEWER))
    with TestClient(create_app(parts, Door.WEB), headers=token) as client:
        yield client


@pytest.fixture(scope="module")
def spec(web: TestClient) -> Any:
    return web.get("/v1/openapi.json").json()


def test_the_document_introduces_itself(spec: Any) -> None:
    assert spec["openapi"] == "3.1.0"
    assert spec["info"]["title"] == "Seed"
    assert "remedy" in spec["info"]["description"]
    assert spec["components"]["securitySchemes"].keys() == {"bearer", "basic"}
    assert all(tag["description"] for tag in spec["tags"])


def test_every_route_is_in_it_and_nothing_else(spec: Any) -> None:
    found = {(m.upper(), path) for path, ops in spec["paths"].items() for m in ops}
    assert found == set(ROUTES)


def test_names_of_operations_are_stable_and_unique(spec: Any) -> None:
    """Generators make functions of them: a handler's name, that no two share."""
    found = [op["operationId"] for ops in spec["paths"].values() for op in ops.values()]
    assert sorted(found) == sorted(set(found))
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in found)
    models = spec["components"]["schemas"]
    assert [name for name in models if "__" in name] == []  # two models of one name


@pytest.mark.parametrize("row", sorted(ROUTES), ids=IDS)
def test_an_operation_is_described(spec: Any, row: tuple[str, str]) -> None:
    method, path = row
    operation = spec["paths"][path][method.lower()]
    assert operation["summary"]
    assert operation["description"], "give the route a docstring"
    assert set(operation["tags"]) <= TAGS.keys(), "describe the tag in api/spec.py"
    for argument in operation.get("parameters", []):
        assert argument["description"]
    problems = {status for status in operation["responses"] if status[0] in "45"}
    assert "503" in problems
    assert row in PUBLIC or problems >= {"400", "401", "403", "404", "409", "422", "429"}
    assert method == "GET" or problems >= {"412", "413", "415"}
    for status in problems:
        name = operation["responses"][status]["$ref"].rpartition("/")[2]
        content = spec["components"]["responses"][name]["content"]["application/problem+json"]
        assert content["schema"]["$ref"].endswith("/Problem")
        assert content["example"]["status"] == int(status)
        assert content["example"]["remedy"]


@pytest.mark.parametrize("row", sorted(ROUTES), ids=IDS)
def test_every_body_has_an_example_that_its_own_model_takes(
    spec: Any, row: tuple[str, str]
) -> None:
    method, path = row
    operation, route = spec["paths"][path][method.lower()], ROUTES[row]
    for kind, media in operation.get("requestBody", {}).get("content", {}).items():
        assert "example" in media
        if kind == "application/json":
            assert route.body_field is not None
            _, errors = route.body_field.validate(media["example"], {}, loc=("body",))
            assert not errors
    for status, answer in operation["responses"].items():
        for kind, media in answer.get("content", {}).items():
            assert "example" in media, f"{status} {kind}"
            if kind == "application/json" and route.response_model is not None:
                TypeAdapter(route.response_model).validate_python(media["example"], strict=False)


def test_a_list_says_how_its_pages_are_asked_for(spec: Any) -> None:
    for path, operations in spec["paths"].items():
        get = operations.get("get", {})
        schema = (
            get.get("responses", {})
            .get("200", {})
            .get("content", {})
            .get("application/json", {})
            .get("schema", {})
        )
        names = {argument["name"] for argument in get.get("parameters", [])}
        if schema.get("type") == "array":
            assert names >= {"limit", "fields"}, path


# --- the page -----------------------------------------------------------------------------------


def test_the_page_is_for_who_may_call_the_api(parts: Parts) -> None:
    with TestClient(create_app(parts, Door.WEB)) as stranger:
        answer = stranger.get("/docs")
    assert answer.status_code == 401
    assert 'Basic realm="seed"' in answer.headers["www-authenticate"]  # a browser asks then
    with TestClient(create_app(parts, Door.WEB)) as browser:
        secret = a_token(parts, "browser", Role.CLAIMER)
        assert browser.get("/docs", auth=("browser", secret)).status_code == 200


def test_nothing_on_the_page_comes_from_elsewhere(web: TestClient) -> None:
    page = web.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    used = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(used) == 4
    for path in [*used, "/docs"]:
        assert path.startswith("/docs")
        answer = web.get(path)
        assert answer.status_code == 200
        assert len(answer.content) > 100
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert not re.search(r"https?:|\*|script-src[^;]*unsafe", policy)
    assert not re.search(r"https?://", page.text + web.get("/docs/start.js").text)
    assert "<script>" not in page.text  # the policy would not run it
    drawn = re.findall(r"""url\(\s*["']?([^"')]{,40})""", web.get("/docs/swagger-ui.css").text)
    assert drawn
    assert [url for url in drawn if not url.startswith(("data:image/", "#"))] == []  # img-src data:
    assert web.get("/docs/../pyproject.toml").status_code == 404
    assert web.get("/docs/__init__.py").status_code == 404


def test_the_script_is_the_librarys_own(web: TestClient) -> None:
    """The bundle is the library's own file, byte for byte."""
    import fastapi_swagger

    vendored = Path(fastapi_swagger.__file__).parent / "resources" / "swagger-ui-bundle.js"
    assert web.get("/docs/swagger-ui-bundle.js").content == vendored.read_bytes()
