"""Who may see the dashboard, and who may change the fleet."""

from __future__ import annotations

import getpass

import pytest

from cloud.dashboard.people import Access, ForbiddenError, Person, Role, Scope
from shared.errors import UsageError

OPEN = Access("127.0.0.1")
PROXIED = Access("0.0.0.0", "X-User", "X-Role", ("10.0.0.5",))


def request(peer: str = "127.0.0.1", *more: tuple[str, str], host: str = "localhost:8080") -> Scope:
    headers = [("Host", host), *more]
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers]
    return {"type": "http", "client": (peer, 5000), "headers": pairs}


def test_without_a_header_everybody_on_this_machine_is_an_operator() -> None:
    OPEN.check()
    assert OPEN.person(request()) == Person(getpass.getuser(), Role.OPERATOR)
    for host in ("127.0.0.1:8080", "[::1]:8080", "localhost"):
        assert OPEN.person(request(host=host)).may_set


def test_beyond_this_machine_a_header_is_needed() -> None:
    PROXIED.check()
    with pytest.raises(UsageError, match="--trust-header"):
        Access("0.0.0.0").check()


@pytest.mark.parametrize("role", list(Role))
def test_the_proxy_says_who_it_is(role: Role) -> None:
    person = PROXIED.person(request("10.0.0.5", ("X-User", "alice"), ("X-Role", role.value)))
    assert person == Person("alice", role)
    assert person.may_set is (role is Role.OPERATOR)


@pytest.mark.parametrize(
    ("access", "scope", "why"),
    [
        (OPEN, request(host="evil.example"), "this is not evil.example"),
        (OPEN, request("127.0.0.1", ("Origin", "http://evil.example")), "another site"),
        (OPEN, request("127.0.0.1", ("Host", "localhost")), "host is there twice"),
        (PROXIED, request("10.0.0.9", ("X-User", "alice"), ("X-Role", "operator")), "proxy only"),
        (PROXIED, request("10.0.0.5"), "has not said who you are"),
        (PROXIED, request("10.0.0.5", ("X-User", "a"), ("X-User", "b")), "X-User is there twice"),
        (PROXIED, request("10.0.0.5", ("X-User", "alice")), "neither viewer nor operator"),
        (PROXIED, request("10.0.0.5", ("X-User", "a"), ("X-Role", "root")), "neither viewer"),
        (PROXIED, request("10.0.0.5", ("X-User", "a\x01"), ("X-Role", "viewer")), "has not said"),
    ],
)
def test_a_request_that_is_refused_says_why(access: Access, scope: Scope, why: str) -> None:
    with pytest.raises(ForbiddenError, match=why):
        access.person(scope)


def test_a_page_of_its_own_site_may_call_it() -> None:
    assert OPEN.person(request("127.0.0.1", ("Origin", "http://localhost:8080"))).may_set


def test_a_container_of_its_own_may_listen_everywhere_and_answers_its_published_name_only() -> None:
    inside = Access("0.0.0.0", own_network=True)
    inside.check()
    assert inside.person(request(host="127.0.0.1:8080")).may_set
    with pytest.raises(ForbiddenError):
        inside.person(request(host="evil.example"))
