"""What claimers are told names no BMC."""

import pytest

from api.discreet import discreet


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("BMC 10.66.6.1 does not answer", "BMC (not shown) does not answer"),
        (
            "the login of BMC 10.66.6.1, 10.66.6.2 is being changed",
            "the login of BMC (not shown), (not shown) is being changed",
        ),
        ("see `seed bmc show 10.66.6.1`.", "see `seed bmc show (not shown)`."),
        ("GET https://[fe80::1]:443/redfish/v1 gave 503", "GET (not shown) gave 503"),
        ("fe80::c0ff:ee is silent; ::1 too", "(not shown) is silent; (not shown) too"),
        ("the NIC 66:66:66:00:00:01 is missing", "the NIC (not shown) is missing"),
        ("r1u05 boots since 12:30:05: no word yet", "r1u05 boots since 12:30:05: no word yet"),
        ("claim web wants 3 of class gpu-1.2, free are 2", None),
        ("Ironic 39.0.0 said: no; a::b is none", None),
    ],
)
def test_addresses_are_left_out(text: str, told: str | None) -> None:
    if told is None:
        assert discreet(text).startswith(text[:20])
    else:
        assert discreet(text) == told
