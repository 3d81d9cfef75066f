"""Signing up, in and out; tokens forged, reused and revoked; floods of tries."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jwt
import pytest
from pydantic import SecretStr
from quart import Quart

from vclone_api.app import create_app
from vclone_core.actions import accounts, signing_in
from vclone_core.actions.sessions import read_access_token, signing_keys
from vclone_core.errors import Unauthorised
from vclone_core.rules.sessions import derive_keys

from .conftest import Api

PASSWORD = "correct horse battery"
KEY = "s" * 40


async def sign_up(api: Api, email: str = "ann@example.com", policy: str = "open") -> dict[str, Any]:
    """A user with a password and a session; the app takes everybody who comes."""
    app = opened(api, sign_up=policy)
    body = {"email": email, "password": PASSWORD, "name": "Ann"}
    response = await app.test_client().post("/api/auth/signup", json=body)
    assert response.status_code == 201, await response.get_data(as_text=True)
    answer: dict[str, Any] = await response.get_json()
    return answer


def opened(api: Api, **settings: Any) -> Quart:
    """The app with other settings."""
    return create_app(replace(api.platform, settings=api.platform.settings.model_copy(update=settings)))


async def me(api: Api, access: str, app: Quart | None = None) -> int:
    client = (app or api.app).test_client()
    return (await client.get("/api/auth/me", headers={"Authorization": f"Bearer {access}"})).status_code


async def post(api: Api, path: str, body: Any = None, access: str | None = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {access}"} if access else {}
    return await api.ask("POST", path, None, json=body if body is not None else {}, headers=headers)


async def test_from_sign_up_to_sign_out(api: Api) -> None:
    made = await sign_up(api, " Ann@Example.com ")
    assert made["user"]["email"] == "ann@example.com" and made["token_type"] == "Bearer"
    assert await me(api, made["access_token"]) == 200
    body = {"email": "ANN@example.com", "password": PASSWORD}
    status, again = await post(api, "/api/auth/login", body)
    assert status == 200 and again["expires_in"] == 900
    assert (await post(api, "/api/auth/logout", access=again["access_token"]))[0] == 204
    assert await me(api, again["access_token"]) == 401  # at once
    assert (await post(api, "/api/auth/refresh", {"refresh_token": again["refresh_token"]}))[0] == 401
    assert await me(api, made["access_token"]) == 200  # another session


@pytest.mark.parametrize(("policy", "status"), [("open", 201), ("invite", 403), ("closed", 403)])
async def test_who_may_sign_up_is_the_operators_choice(api: Api, policy: str, status: int) -> None:
    app = opened(api, sign_up=policy)
    body = {"email": "a@example.com", "password": PASSWORD}
    response = await app.test_client().post("/api/auth/signup", json=body)
    assert response.status_code == status
    ways = await (await app.test_client().get("/api/auth/ways")).get_json()
    assert ways == {"sign_up": policy, "providers": []}


async def test_bad_fields_are_named_all_at_once(api: Api) -> None:
    app = opened(api, sign_up="open")
    body = {"email": "no address", "password": "short"}
    response = await app.test_client().post("/api/auth/signup", json=body)
    problem = await response.get_json()
    assert response.status_code == 400
    assert {one["field"] for one in problem["problems"]} == {"email", "password"}
    response = await app.test_client().post("/api/auth/signup", json={**body, "is_admin": True})
    assert [one["field"] for one in (await response.get_json())["problems"]] == ["is_admin"]
    assert (await post(api, "/api/auth/login", {"email": ["a"], "password": {"$ne": 1}}))[0] == 400


async def test_a_wrong_password_and_an_unknown_account_are_one_answer(api: Api) -> None:
    await sign_up(api)
    known = await post(api, "/api/auth/login", {"email": "ann@example.com", "password": "x" * 12})
    unknown = await post(api, "/api/auth/login", {"email": "eve@example.com", "password": "x" * 12})
    for _, problem in (known, unknown):
        problem.pop("request_id")
    assert known == unknown and known[0] == 401 and known[1]["code"] == "bad_credentials"
    too_long = await post(api, "/api/auth/login", {"email": "ann@example.com", "password": PASSWORD + "x" * 2000})
    assert too_long[0] == 401


async def test_an_unknown_account_costs_a_hash_like_a_known_one(api: Api) -> None:
    passwords = api.platform.passwords
    stored = await passwords.hash(PASSWORD)
    spent: dict[str, float] = {"known": 0.0, "unknown": 0.0}
    for _ in range(5):
        for name, kept in (("known", stored), ("unknown", None)):
            started = time.process_time()
            assert not (await passwords.check(kept, "wrong")).is_right
            spent[name] += time.process_time() - started
    # A look-up without a hash would be thousands of times cheaper.
    assert 0.5 < spent["known"] / spent["unknown"] < 2


async def test_a_hash_made_with_weaker_parameters_is_made_anew(api: Api) -> None:
    from argon2 import PasswordHasher

    await sign_up(api)
    weak = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD.encode())
    async with api.platform.db._pool.acquire() as connection:
        await connection.execute("update users set password_hash = $1 where email = 'ann@example.com'", weak)
        assert (await post(api, "/api/auth/login", {"email": "ann@example.com", "password": PASSWORD}))[0] == 200
        stored = await connection.fetchval("select password_hash from users where email = 'ann@example.com'")
    assert "m=47104,t=1,p=1" in stored and stored.startswith("$argon2id$")


async def test_a_hundred_wrong_logins_are_stopped_and_leave_the_api_alone(api: Api) -> None:
    await sign_up(api)

    async def attempt() -> Any:
        body = {"email": "ann@example.com", "password": secrets.token_hex(8)}
        return await api.response("POST", "/api/auth/login", None, json=body)

    started = time.monotonic()
    answers: list[Any] = []
    for _ in range(5):
        answers += await asyncio.gather(*(attempt() for _ in range(20)))
    statuses = [answer.status_code for answer in answers]
    # On a slow machine time for one more passes every twelve seconds.
    assert 5 <= statuses.count(401) <= 5 + (time.monotonic() - started) / 12
    assert statuses.count(401) + statuses.count(429) == 100
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert (await refused.get_json(force=True))["code"] == "too_many_requests"
    assert (await api.ask("GET", "/api/projects"))[0] == 200


async def test_one_address_tries_twenty_accounts_a_minute(api: Api) -> None:
    async def attempt(number: int) -> int:
        body = {"email": f"u{number}@example.com", "password": "x" * 12}
        return (await post(api, "/api/auth/login", body))[0]

    started = time.monotonic()
    statuses = [await attempt(number) for number in range(30)]
    assert 20 <= statuses.count(401) <= 20 + (time.monotonic() - started) / 3
    assert statuses.count(401) + statuses.count(429) == 30


# Each makes a token that must not be believed from the header and the claims of one that would be.
Forge = Callable[[dict[str, Any], dict[str, Any], bytes], str]


def encode(header: Any, claims: Any, signature: bytes = b"") -> str:
    parts = [json.dumps(part, separators=(",", ":")).encode() for part in (header, claims)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (*parts, signature))


def sign(header: dict[str, Any], claims: dict[str, Any], key: bytes, digest: str = "sha256") -> str:
    """Sign by hand: a library refuses some of what a forger does."""
    unsigned = encode(header, claims).rpartition(".")[0]
    return encode(header, claims, hmac.digest(key, unsigned.encode(), digest))


def without(claims: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in claims.items() if key != name}


def lacking(name: str) -> Forge:
    return lambda h, c, k: sign(h, without(c, name), k)


FORGED: dict[str, Forge] = {
    "alg none": lambda h, c, k: encode({**h, "alg": "none"}, c),
    "alg None": lambda h, c, k: encode({**h, "alg": "None"}, c),
    "no signature": lambda h, c, k: encode(h, c),
    "another signature": lambda h, c, k: encode(h, c, b"x" * 32),
    "another key": lambda h, c, k: sign(h, c, b"y" * 32),
    "the secret itself as the key": lambda h, c, k: sign(h, c, KEY.encode()),
    "another algorithm": lambda h, c, k: sign({**h, "alg": "HS512"}, c, k, "sha512"),
    "no kid": lambda h, c, k: sign(without(h, "kid"), c, k),
    "an unknown kid": lambda h, c, k: sign({**h, "kid": "0" * 12}, c, k),
    "a path as kid": lambda h, c, k: sign({**h, "kid": "../../dev/null"}, c, b""),
    "SQL as kid": lambda h, c, k: sign({**h, "kid": "x' union select 'y"}, c, b"y"),
    "a number as kid": lambda h, c, k: encode({**h, "kid": 1}, c, b"x" * 32),
    "a key of its own by jwk": lambda h, c, k: sign({**h, "jwk": {"kty": "oct", "k": "eA"}}, c, b"x"),
    "keys elsewhere by jku": lambda h, c, k: sign({**h, "jku": "http://127.0.0.1:1/keys"}, c, b"x"),
    "typ JWT": lambda h, c, k: sign({**h, "typ": "JWT"}, c, k),
    "another issuer": lambda h, c, k: sign(h, {**c, "iss": "https://evil.example"}, k),
    "another audience": lambda h, c, k: sign(h, {**c, "aud": "edge"}, k),
    "too old": lambda h, c, k: sign(h, {**c, "exp": int(time.time()) - 60}, k),
    "from the future": lambda h, c, k: sign(h, {**c, "iat": int(time.time()) + 600}, k),
    "another user's session": lambda h, c, k: sign(h, {**c, "sub": "usr_other"}, k),
    "a session that is none": lambda h, c, k: sign(h, {**c, "sid": "ses_none"}, k),
    "a session that is no text": lambda h, c, k: sign(h, {**c, "sid": {"$ne": ""}}, k),
    **{f"no {name}": lacking(name) for name in ("iss", "aud", "exp", "iat", "jti", "sub", "sid")},
    "too long": lambda h, c, k: sign(h, {**c, "more": "x" * 4000}, k),
    "claims that are no object": lambda h, c, k: encode(h, ["x"], b"x" * 32),
    "two dots": lambda h, c, k: "..",
    "not Base64": lambda h, c, k: "é.é.é",
}


async def test_forged_access_tokens_open_nothing(api: Api) -> None:
    made = await sign_up(api)
    access = made["access_token"]
    header, claims = jwt.get_unverified_header(access), jwt.decode(access, options={"verify_signature": False})
    (key,) = signing_keys(api.platform).values()
    assert await me(api, sign(header, claims, key)) == 200, "the forger's tools work"
    assert len(FORGED) >= 12
    believed = [name for name, forge in FORGED.items() if await me(api, forge(header, dict(claims), key)) != 401]
    assert believed == []
    assert await me(api, made["refresh_token"]) == 401  # a refresh token is no access token
    assert (await post(api, "/api/auth/refresh", {"refresh_token": access}))[0] in (400, 401)  # nor the other way round


async def test_keys_are_rotated_without_a_failure(api: Api) -> None:
    made = await sign_up(api)
    rotated = opened(api, secret_key=SecretStr("n" * 40), secret_key_previous=SecretStr(KEY))
    assert await me(api, made["access_token"], rotated) == 200
    response = await rotated.test_client().post("/api/auth/refresh", json={"refresh_token": made["refresh_token"]})
    fresh = (await response.get_json())["access_token"]
    assert jwt.get_unverified_header(fresh)["kid"] == next(iter(derive_keys("n" * 40)))
    removed = opened(api, secret_key=SecretStr("n" * 40))
    assert await me(api, made["access_token"], removed) == 401
    assert await me(api, fresh, removed) == 200


async def test_a_key_that_is_short_signs_nothing(api: Api) -> None:
    weak = replace(api.platform, settings=api.platform.settings.model_copy(update={"secret_key": SecretStr("short")}))
    with pytest.raises(Exception, match="VCLONE_SECRET_KEY"):
        create_app(weak)
    with pytest.raises(Unauthorised):
        read_access_token(api.platform, "a.b.c")


async def test_a_refresh_token_is_good_once_and_a_moment(api: Api) -> None:
    made = await sign_up(api)
    body = {"refresh_token": made["refresh_token"]}
    answers = await asyncio.gather(*(post(api, "/api/auth/refresh", body) for _ in range(2)))
    assert [status for status, _ in answers] == [200, 200]  # two tabs at once
    tokens = [answer["refresh_token"] for _, answer in answers]
    assert len({*tokens, made["refresh_token"]}) == 3
    for _, answer in answers:
        assert await me(api, answer["access_token"]) == 200
    async with api.platform.db._pool.acquire() as connection:
        await connection.execute("update refresh_tokens set used_at = used_at - interval '11 seconds'")
    status, problem = await post(api, "/api/auth/refresh", body)
    assert (status, problem["code"]) == (401, "reused_token")
    for token in tokens:  # the family is dead, whoever has its tokens
        assert (await post(api, "/api/auth/refresh", {"refresh_token": token}))[0] == 401
    assert await me(api, answers[0][1]["access_token"]) == 401


async def test_a_session_slides_and_ends_at_its_longest(api: Api) -> None:
    made = await sign_up(api)
    async with api.platform.db._pool.acquire() as connection:
        await connection.execute("update sessions set created_at = now() - interval '89 days'")
        status, fresh = await post(api, "/api/auth/refresh", {"refresh_token": made["refresh_token"]})
        assert status == 200
        left = await connection.fetchval("select max(expires_at) - now() from refresh_tokens where used_at is null")
        assert left.total_seconds() < 86_400 + 60
        await connection.execute("update sessions set expires_at = now() - interval '1 second'")
    assert (await post(api, "/api/auth/refresh", {"refresh_token": fresh["refresh_token"]}))[0] == 401
    assert await me(api, fresh["access_token"]) == 401


async def test_a_new_password_ends_the_other_sessions(api: Api) -> None:
    made = await sign_up(api)
    _, other = await post(api, "/api/auth/login", {"email": "ann@example.com", "password": PASSWORD})
    wrong = {"current_password": "x" * 12, "password": "another long password"}
    assert (await post(api, "/api/auth/password", wrong, made["access_token"]))[0] == 401
    right = {"current_password": PASSWORD, "password": "another long password"}
    assert (await post(api, "/api/auth/password", right, made["access_token"]))[0] == 204
    assert await me(api, made["access_token"]) == 200
    assert await me(api, other["access_token"]) == 401
    assert (await post(api, "/api/auth/refresh", {"refresh_token": other["refresh_token"]}))[0] == 401
    assert (await post(api, "/api/auth/login", {"email": "ann@example.com", "password": PASSWORD}))[0] == 401


async def test_sessions_are_listed_and_ended_one_by_one(api: Api) -> None:
    made = await sign_up(api)
    _, other = await post(api, "/api/auth/login", {"email": "ann@example.com", "password": PASSWORD})
    bearer = {"Authorization": f"Bearer {made['access_token']}"}
    _, listed = await api.ask("GET", "/api/auth/sessions", None, headers=bearer)
    assert [one["is_current"] for one in listed["items"]].count(True) == 1 and len(listed["items"]) == 2
    ended = next(one["id"] for one in listed["items"] if not one["is_current"])
    assert (await api.ask("DELETE", f"/api/auth/sessions/{ended}", "stranger"))[0] == 404
    assert (await api.ask("DELETE", f"/api/auth/sessions/{ended}", None, headers=bearer))[0] == 204
    assert await me(api, other["access_token"]) == 401


async def test_no_secret_is_in_the_database(api: Api) -> None:
    made = await sign_up(api)
    token = await accounts.create_token(api.platform, api.owner, name="x")
    secrets_given = [PASSWORD, made["refresh_token"], made["access_token"], token, api.callers["owner"]]
    async with api.platform.db._pool.acquire() as connection:
        tables = await connection.fetch("select tablename from pg_tables where schemaname = 'public'")
        for (table,) in tables:
            dump = "\n".join(row[0] for row in await connection.fetch(f"select t::text from {table} t"))
            for secret in secrets_given:
                assert secret not in dump and secret.encode().hex() not in dump, table


async def test_a_disabled_user_is_out_at_once(api: Api) -> None:
    made = await sign_up(api)
    async with api.platform.db._pool.acquire() as connection:
        await connection.execute("update users set disabled_at = now() where email = 'ann@example.com'")
    assert await me(api, made["access_token"]) == 401
    assert (await post(api, "/api/auth/refresh", {"refresh_token": made["refresh_token"]}))[0] == 401
    assert (await post(api, "/api/auth/login", {"email": "ann@example.com", "password": PASSWORD}))[0] == 401


async def test_two_who_sign_up_with_one_address_make_one_account(api: Api) -> None:
    app = opened(api, sign_up="open")
    body = {"email": "twice@example.com", "password": PASSWORD}
    answers = await asyncio.gather(*(app.test_client().post("/api/auth/signup", json=body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_a_sign_in_by_code_is_confirmed_once_by_a_person(api: Api) -> None:
    from vclone_core.actions import tokens

    status, started = await post(api, "/api/auth/device", {"client": "laptop"})
    assert status == 200 and started["verification_uri_complete"].endswith(started["user_code"])
    poll = {"device_code": started["device_code"]}
    assert (await post(api, "/api/auth/device/token", poll))[1] == {"state": "pending", "token": None}
    assert (await post(api, "/api/auth/device/token", {"device_code": started["user_code"]}))[1]["state"] == "expired"
    await tokens.decide_device_login(api.platform, api.owner, started["user_code"].lower(), is_approved=True)
    answers = await asyncio.gather(*(post(api, "/api/auth/device/token", poll) for _ in range(4)))
    given = [answer["token"] for _, answer in answers if answer["token"]]
    assert len(given) == 1 and {answer["state"] for _, answer in answers} == {"approved", "expired"}
    assert await me(api, given[0]) == 200
    with pytest.raises(Exception, match="code"):
        await tokens.decide_device_login(api.platform, api.owner, started["user_code"], is_approved=True)
    _, refused = await post(api, "/api/auth/device", {})
    await tokens.decide_device_login(api.platform, api.owner, refused["user_code"], is_approved=False)
    poll = {"device_code": refused["device_code"]}
    assert (await post(api, "/api/auth/device/token", poll))[1]["state"] == "denied"


async def test_limits_hold_without_redis(api: Api) -> None:
    from vclone_core.stores.limits import Limiter
    from vclone_core.stores.redis import Redis

    away = Redis("redis://127.0.0.1:1")
    alone = replace(api.platform, limiter=Limiter(away))

    async def attempt() -> str:
        try:
            await signing_in.sign_in(alone, email="eve@example.com", password="x" * 12, address="192.0.2.1")
        except Exception as error:
            return type(error).__name__
        return "in"

    found = [await attempt() for _ in range(8)]
    await away.close()
    assert found == ["BadCredentials"] * 5 + ["TooManyRequests"] * 3
