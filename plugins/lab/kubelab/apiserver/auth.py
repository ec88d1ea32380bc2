"""Authentication: static tokens, service account tokens, impersonation headers."""

import base64
import csv
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

import orjson
from attrs import frozen

from . import errors
from .store import Store


@frozen
class User:
    """An authenticated caller."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""


ADMIN = User("system:admin", ("system:masters", "system:authenticated"))
ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


def read_token_file(path: Path) -> dict[str, User]:
    """Read a static token file in kube-apiserver's format: ``token,user,uid,"group1,group2"``.

    Raises :class:`ValueError` naming the line that has fewer than three columns.
    """
    users = {}
    with path.open(newline="") as lines:
        for row in csv.reader(lines):
            if not row or row[0].startswith("#"):
                continue
            if len(row) < 3:
                raise ValueError(f"{path}: expected token,user,uid[,groups], found {len(row)} column(s)")
            groups = tuple(g.strip() for g in row[3].split(",") if g.strip()) if len(row) > 3 else ()
            users[row[0]] = User(row[1], (*groups, "system:authenticated"), row[2])
    return users


class Authenticator:
    """Maps the headers of a request to a user.

    Without a token file every caller is the administrator.
    """

    def __init__(self, tokens: Mapping[str, User] | None, key: bytes, store: Store) -> None:
        self._tokens = tokens
        self._key = key
        self._store = store

    @property
    def open_to_all(self) -> bool:
        """Whether callers don't have to authenticate."""
        return self._tokens is None

    def user(self, authorization: str) -> User:
        """The caller of a request by its Authorization header.

        Raises :class:`~.errors.ApiError` (401) for an unknown token.
        """
        kind, _, token = authorization.partition(" ")
        token = token.strip()
        if kind.lower() != "bearer" or not token:
            return ADMIN if self.open_to_all else ANONYMOUS
        known = self.lookup(token)
        if known is None:
            if self.open_to_all:
                return ADMIN
            raise errors.unauthorized()
        return known

    def lookup(self, token: str) -> User | None:
        """The user of a token, None when it isn't valid."""
        known = (self._tokens or {}).get(token)
        return known or self._service_account(token)

    def issue(self, namespace: str, name: str, uid: str, seconds: int) -> str:
        """A signed token of a service account, valid for ``seconds``."""
        claims = {
            "iss": "https://kubernetes.default.svc",
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "exp": int(time.time()) + seconds,
            "iat": int(time.time()),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
        }
        signed = f"{_encode(orjson.dumps({'alg': 'HS256', 'typ': 'JWT'}))}.{_encode(orjson.dumps(claims))}"
        return f"{signed}.{self._sign(signed)}"

    def _sign(self, text: str) -> str:
        return _encode(hmac.new(self._key, text.encode(), hashlib.sha256).digest())

    def _service_account(self, token: str) -> User | None:
        signed, _, signature = token.rpartition(".")
        if signed.count(".") != 1 or not hmac.compare_digest(signature, self._sign(signed)):
            return None
        claims = orjson.loads(_decode(signed.split(".")[1]))
        if claims["exp"] < time.time():
            return None
        scope = claims["kubernetes.io"]
        namespace, account = scope["namespace"], scope["serviceaccount"]
        held = self._store.collection("serviceaccounts").objects.get((namespace, account["name"]))
        if held is None or held.uid != account["uid"]:
            return None
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return User(claims["sub"], groups, account["uid"])


def signing_key(directory: Path | None) -> bytes:
    """The key that signs service account tokens; kept with the data, so that tokens stay valid after a restart."""
    if directory is None:
        return secrets.token_bytes(32)
    path = directory / "service-account.key"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(secrets.token_bytes(32))
    return path.read_bytes()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
