"""Who asks at the operators' port: the local token or a session, the role it gives, and what each route needs."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from tidegate.control.buckets import Buckets
from tidegate.control.operators import LOCAL, ROLES, Operators, reaches
from tidegate.core.errors import Refused, Untrusted
from tidegate.trust.passwords import Passwords

SESSION_S = 12 * 3600
MOST_SESSIONS = 10_000
TRIES_PER_S, TRIES = 1 / 30, 5
"""Log-ins that one name may try: five at once, then one in half a minute."""
ADDRESS_TRIES_PER_S, ADDRESS_TRIES = 1.0, 50
"""And one address, for whatever names: behind it may be a whole office."""

NEEDS: list[tuple[str, str, str]] = [
    # method, path, the least role; the first that fits counts
    (r"GET|HEAD", r"/api/v1/backup/.*", "admin"),
    (r"GET|HEAD", r"/.*", "viewer"),
    (r"DELETE", r"/api/v1/sessions", "viewer"),
    (r"POST", r"/api/v1/operators/[^/]+/password", "viewer"),  # one's own; the handler asks more for another's
    (r"POST", r"/api/v1/operators(/.*)?", "admin"),
    (r"POST", r"/api/v1/policy", "admin"),
    (r"POST", r"/api/v1/device-secrets/.*", "admin"),
    (r"POST", r"/api/v1/ceremonies", "admin"),
    (r"POST", r"/api/v1/approvals/\d+/grant", "approver"),
    (r".*", r"/.*", "operator"),
]
OPEN = frozenset({("POST", "/api/v1/sessions")})
"""What needs no session: getting one."""

asking: ContextVar[str] = ContextVar("asking", default="")
"""The account that the request at hand comes from."""


class TooManyTries(Refused):
    """Too many log-ins of one name or address: HTTP 429."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"too many attempts to log in; try again in {wait_s} s")
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Session:
    """Who has logged in, and until when."""

    name: str
    expires_ms: int


class Access:
    """Tokens and what they stand for. Sessions are in memory: a restart asks everyone to log in again."""

    def __init__(self, local_token: str, operators: Callable[[], Operators], passwords: Passwords | None) -> None:
        self._local = hashlib.sha256(local_token.encode()).digest()
        self._operators, self._passwords = operators, passwords
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._tries = Buckets(TRIES_PER_S, TRIES)
        self._address_tries = Buckets(ADDRESS_TRIES_PER_S, ADDRESS_TRIES)

    @property
    def passwords(self) -> Passwords:
        """Where passwords are kept. Raises Refused where this server has none."""
        if self._passwords is None:
            raise Refused("this server keeps no accounts; use the token on its own machine")
        return self._passwords

    def account_of(self, header: bytes, now_ms: int) -> str:
        """Give the account that an `Authorization` header speaks for, or nothing."""
        if not header.startswith(b"Bearer "):
            return ""
        digest = hashlib.sha256(header.removeprefix(b"Bearer ")).digest()  # of equal length, whatever is sent
        if hmac.compare_digest(digest, self._local):
            return LOCAL
        session = self._sessions.get(digest)
        if session is None or now_ms >= session.expires_ms or not self._operators().role(session.name):
            return ""
        return session.name

    def role_of(self, account: str) -> str:
        """Give an account's role at this moment."""
        return self._operators().role(account)

    def count_try(self, name: str, address: str) -> None:
        """Count an attempt to log in. Raises TooManyTries."""
        if wait_s := max(self._tries.wait_s(name), self._address_tries.wait_s(address)):
            raise TooManyTries(wait_s)

    def log_in(self, name: str, password: str, now_ms: int) -> tuple[str, Session]:
        """Check a password and begin a session; takes tens of milliseconds, so call it in a thread.

        Raises:
            Untrusted: without saying whether it was the name, the password, or that the account is shut.
        """
        if not self.passwords.check(name, password) or not self._operators().role(name) or name == LOCAL:
            raise Untrusted("no operator of that name has this password")
        token, session = secrets.token_urlsafe(32), Session(name, now_ms + SESSION_S * 1000)
        self._sessions[hashlib.sha256(token.encode()).digest()] = session
        while len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return token, session

    def log_out(self, header: bytes) -> None:
        """End the session of a header, if it is one."""
        self._sessions.pop(hashlib.sha256(header.removeprefix(b"Bearer ")).digest(), None)

    def end_sessions(self, name: str) -> None:
        """End all sessions of an account: its password is another, or it is shut."""
        for digest in [d for d, session in self._sessions.items() if session.name == name]:
            del self._sessions[digest]


def role_needed(method: str, path: str) -> str:
    """Give the least role for a request."""
    for methods, paths, role in NEEDS:
        if re.fullmatch(methods, method) and re.fullmatch(paths, path):
            return role
    return ROLES[-1]


def may(role: str, method: str, path: str) -> bool:
    """Say whether a role may make a request."""
    return reaches(role, role_needed(method, path))
