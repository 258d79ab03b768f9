"""Nothing secret gets into a log line, by name or by look."""

import pytest

from seed.log import HIDDEN, hidden, hide_secrets


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer hunter2",
        "authorization='Basic hunter2'",
        "GET https://admin:hunter2@172.22.1.11/redfish/v1",
        "password=hunter2",
        "{'password': 'hunter2'}",
        '{"token": "hunter2", "name": "x"}',
        "secret: hunter2, more",
        "Password = 'hunter2 with spaces'",
    ],
)
def test_secrets_in_text(text: str) -> None:
    assert "hunter2" not in hidden(text)
    assert HIDDEN in hidden(text)


@pytest.mark.parametrize(
    "text",
    [
        "a token was created",
        "https://172.22.0.1/v1?x=1",
        "http://h:8080/p",
        "the password is wrong",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert hidden(text) == text


def test_secrets_by_name() -> None:
    facts = {"event": "x", "bmc_password": "a", "Authorization": "b", "node": "n1", "count": 3}
    kept = hide_secrets(None, "info", dict(facts))
    assert kept == facts | {"bmc_password": HIDDEN, "Authorization": HIDDEN}
