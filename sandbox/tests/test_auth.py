"""The Auth API answers with the status and error codes that were observed on the real server."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from .servers import Answer, Sandbox

ID = "0190a000-0000-7000-8000-000000000001"
OTHER = "0190a000-0000-7000-8000-000000000002"


class Auth:
    """The Auth API of one project, called with a service role's headers unless others are given."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.ref = sandbox.project()
        self.keys = sandbox.keys(self.ref)
        legacy = self.keys["service_role"]
        self.headers = {"apikey": legacy, "Authorization": f"Bearer {legacy}"}

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        sent = self.headers if headers is None else headers
        return self.sandbox.ask(method, f"/auth/{self.ref}/v1{path}", body, headers=sent, token=None)

    def create(self, user_id: str = ID, email: str = "Ada@Example.com", **extra: Any) -> Answer:
        return self.ask("POST", "/admin/users", {"id": user_id, "email": email, "email_confirm": True, **extra})

    def link(self, kind: str, email: str = "ada@example.com", **extra: Any) -> Answer:
        return self.ask("POST", "/admin/generate_link", {"type": kind, "email": email, **extra})

    def click(self, link: str) -> dict[str, str]:
        """Follows a link; returns what the redirect carries, and where it leads as `target`."""
        parts = urlsplit(link)
        answer = self.sandbox.ask("GET", f"{parts.path}?{parts.query}", token=None)
        assert answer.status == 303
        target, _, fragment = answer.headers["Location"].partition("#")
        return {"target": target, **{name: values[0] for name, values in parse_qs(fragment).items()}}

    def login(self, **credentials: Any) -> Answer:
        grant = "refresh_token" if "refresh_token" in credentials else "password"
        headers = {"apikey": self.keys["publishable"]}
        return self.ask("POST", f"/token?grant_type={grant}", credentials, headers)


@pytest.fixture
def auth(sandbox: Sandbox) -> Auth:
    return Auth(sandbox)


def refused(answer: Answer) -> tuple[int, str]:
    return answer.status, str(answer.body.get("error_code"))


def test_a_preset_id_is_kept_and_the_address_is_lower_cased(auth: Auth) -> None:
    created = auth.create(app_metadata={"tenant": "t1"}, user_metadata={"name": "Ada"})
    assert created.status == 200
    assert (created.body["id"], created.body["email"]) == (ID, "ada@example.com")
    assert created.body["app_metadata"] == {"provider": "email", "providers": ["email"], "tenant": "t1"}
    assert auth.ask("GET", f"/admin/users/{ID}").body == created.body


def test_a_duplicate_is_422_by_address_and_500_by_id(auth: Auth) -> None:
    auth.create()
    assert refused(auth.create()) == (422, "email_exists")
    assert refused(auth.create(OTHER)) == (422, "email_exists")
    same_id = auth.create(ID, "bob@example.com")
    assert (same_id.status, same_id.body["code"]) == (500, "23505")
    assert refused(auth.ask("GET", f"/admin/users/{OTHER}")) == (404, "user_not_found")


def test_the_secret_key_goes_into_the_apikey_header_only(auth: Auth) -> None:
    secret = auth.keys["secret"]
    assert auth.ask("GET", f"/admin/users/{ID}", headers={"apikey": secret}).status == 404
    as_bearer = {"apikey": secret, "Authorization": f"Bearer {secret}"}
    assert refused(auth.ask("GET", f"/admin/users/{ID}", headers=as_bearer)) == (403, "bad_jwt")


def test_every_wrong_key_is_refused_in_its_own_way(auth: Auth) -> None:
    def ask(**headers: str) -> tuple[int, str]:
        return refused(auth.ask("GET", f"/admin/users/{ID}", headers=headers))

    anon, service = auth.keys["anon"], auth.keys["service_role"]
    assert ask() == (401, "no_authorization")
    assert ask(apikey=service) == (401, "no_authorization")
    assert ask(apikey=service, Authorization=f"Bearer {service[:-3]}abc") == (403, "bad_jwt")
    assert ask(apikey=anon, Authorization=f"Bearer {anon}") == (403, "not_admin")
    assert ask(apikey=auth.keys["publishable"]) == (403, "not_admin")
    assert ask(Authorization=f"Bearer {service}")[0] == 401
    other = auth.sandbox.keys(auth.sandbox.project("other"))["service_role"]
    assert ask(apikey=other, Authorization=f"Bearer {other}") == (403, "bad_jwt")


def test_the_new_api_version_writes_errors_in_the_new_form(auth: Auth) -> None:
    headers = {**auth.headers, "X-Supabase-Api-Version": "2024-01-01"}
    answer = auth.ask("GET", f"/admin/users/{ID}", headers=headers)
    assert answer.body == {"code": "user_not_found", "message": "User not found"}


def test_an_error_says_its_code_and_the_version_of_its_form(auth: Auth) -> None:
    old = auth.ask("GET", f"/admin/users/{ID}")
    assert old.headers["X-Sb-Error-Code"] == "user_not_found" and old.headers["X-Supabase-Api-Version"] is None
    for wanted, told in (
        ("2024-01-01", "2024-01-01"),
        ("2030-12-31", "2024-01-01"),
        ("2023-01-01", None),
        ("soon", None),
    ):
        answer = auth.ask("GET", f"/admin/users/{ID}", headers={**auth.headers, "X-Supabase-Api-Version": wanted})
        assert answer.headers["X-Supabase-Api-Version"] == told, wanted
        assert answer.body["code"] == ("user_not_found" if told else 404)


def test_users_are_listed_a_page_at_a_time(auth: Auth) -> None:
    assert auth.ask("GET", "/admin/users").body == {"users": [], "aud": "authenticated"}
    for name in ("ada", "bob", "cora"):
        auth.ask("POST", "/admin/users", {"email": f"{name}@example.com"})
    first = auth.ask("GET", "/admin/users?page=1&per_page=2")
    assert [user["email"] for user in first.body["users"]] == ["cora@example.com", "bob@example.com"]
    assert first.headers["X-Total-Count"] == "3"
    assert '?page=2&per_page=2>; rel="next"' in first.headers["Link"] and 'rel="last"' in first.headers["Link"]
    assert "next" not in auth.ask("GET", "/admin/users?page=2&per_page=2").headers["Link"]
    assert refused(auth.ask("GET", "/admin/users?page=0")) == (400, "validation_failed")


def test_new_keys_take_the_place_of_the_former_ones(auth: Auth) -> None:
    auth.sandbox.control("PATCH", f"projects/{auth.ref}", {"new_keys": True})
    assert refused(auth.ask("GET", f"/admin/users/{ID}")) == (403, "bad_jwt")
    assert auth.ask("GET", f"/admin/users/{ID}", headers={"apikey": auth.keys["secret"]}).status == 401
    auth.headers = {"apikey": auth.sandbox.keys(auth.ref)["secret"]}
    assert auth.ask("GET", f"/admin/users/{ID}").status == 404


def test_malformed_input_is_named(auth: Auth) -> None:
    assert refused(auth.create("not-a-uuid")) == (400, "validation_failed")
    assert refused(auth.create(email="nobody")) == (400, "validation_failed")
    assert refused(auth.create(ban_duration="soon")) == (400, "validation_failed")
    assert refused(auth.ask("GET", "/admin/users/not-a-uuid")) == (404, "validation_failed")
    form = {**auth.headers, "Content-Type": "application/x-www-form-urlencoded"}
    assert refused(auth.ask("POST", "/admin/users", "email=a@b.c", form)) == (400, "bad_json")
    unknown = auth.ask("GET", "/admin/unknown")
    assert unknown.status == 404 and unknown.headers["Content-Type"].startswith("text/plain")


def test_an_update_merges_app_metadata_at_its_top_level(auth: Auth) -> None:
    auth.create(app_metadata={"a": {"x": 1}, "b": 2})
    changed = auth.ask("PUT", f"/admin/users/{ID}", {"app_metadata": {"a": {"y": 1}}})
    assert changed.body["app_metadata"]["a"] == {"y": 1} and changed.body["app_metadata"]["b"] == 2


def test_a_ban_stops_login_and_refresh_but_not_a_token_already_issued(auth: Auth) -> None:
    auth.create(password="long-enough")
    session = auth.login(email="ada@example.com", password="long-enough")
    assert session.status == 200
    auth.ask("PUT", f"/admin/users/{ID}", {"ban_duration": "876000h"})
    again = auth.login(email="ada@example.com", password="long-enough")
    assert refused(again) == (400, "user_banned")
    assert refused(auth.login(refresh_token=session.body["refresh_token"])) == (400, "user_banned")
    issued = {"apikey": auth.keys["anon"], "Authorization": f"Bearer {session.body['access_token']}"}
    assert auth.ask("GET", "/user", headers=issued).status == 200
    auth.sandbox.control("POST", "clock", {"advance_seconds": 3601})
    assert refused(auth.ask("GET", "/user", headers=issued)) == (403, "bad_jwt")
    auth.ask("PUT", f"/admin/users/{ID}", {"ban_duration": "none"})
    assert auth.login(refresh_token=session.body["refresh_token"]).status == 200


def test_a_link_works_once_and_a_newer_one_kills_the_older(auth: Auth) -> None:
    auth.create()
    older, newer = (auth.link("recovery").body["action_link"] for _ in range(2))
    assert auth.click(older)["error_code"] == "otp_expired"
    assert "access_token" in auth.click(newer)
    assert auth.click(newer)["error_code"] == "otp_expired"
    aging = auth.link("recovery").body["action_link"]
    auth.sandbox.control("POST", "clock", {"advance_seconds": 3601})
    assert auth.click(aging)["error_code"] == "otp_expired"


def test_an_invite_is_for_the_unconfirmed_and_makes_unknown_users_with_ids_of_their_own(auth: Auth) -> None:
    auth.ask("POST", "/admin/users", {"id": ID, "email": "ada@example.com"})
    assert auth.link("invite").body["id"] == auth.link("invite").body["id"] == ID
    made = auth.link("invite", "new@example.com").body
    assert made["id"] != ID and uuid.UUID(made["id"])
    auth.ask("PUT", f"/admin/users/{ID}", {"email_confirm": True})
    assert refused(auth.link("invite")) == (422, "email_exists")
    assert auth.link("recovery").status == 200


def test_a_redirect_that_is_not_allowed_becomes_the_site(auth: Auth) -> None:
    auth.create()
    link = auth.link("recovery", redirect_to="https://evil.example/")
    assert (link.status, link.body["redirect_to"]) == (200, "http://localhost:3000")
    good = auth.link("recovery", redirect_to="http://localhost:3000/welcome").body["action_link"]
    assert auth.click(good)["target"] == "http://localhost:3000/welcome"


def test_a_project_has_its_own_site_and_list(auth: Auth) -> None:
    config = {"site_url": "https://app.example.com", "uri_allow_list": "https://one.example/*, https://two.example/"}
    assert auth.sandbox.ask("PATCH", f"/v1/projects/{auth.ref}/config/auth", config).body == config
    auth.create()
    for wanted, given in [
        ("https://app.example.com/welcome", "https://app.example.com/welcome"),
        ("https://one.example/any", "https://one.example/any"),
        ("https://two.example/", "https://two.example/"),
        ("https://app.example.com.evil.example/", "https://app.example.com"),
    ]:
        assert auth.link("recovery", redirect_to=wanted).body["redirect_to"] == given


def test_a_soft_deleted_user_still_answers(auth: Auth) -> None:
    auth.create()
    auth.ask("DELETE", f"/admin/users/{ID}", {"should_soft_delete": True})
    found = auth.ask("GET", f"/admin/users/{ID}")
    assert found.status == 200 and "deleted_at" in found.body
    auth.ask("DELETE", f"/admin/users/{ID}")
    assert auth.ask("GET", f"/admin/users/{ID}").status == 404
    assert auth.sandbox.control("GET", f"users?ref={auth.ref}") == []
