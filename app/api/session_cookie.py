"""The cookie in which a browser keeps a key: for the web page, whose images send no header.

No script can read it (HttpOnly) and no other site can make a browser send it (SameSite=Strict). A
change that comes with it must name this service as its origin as well (OWASP, cross-site request
forgery). It is no session of its own: a key that is revoked or expires is worthless here, too.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode

from fastapi import Response
from starlette.requests import cookie_parser

NAME = "topwork_key"
HOURS = 12


def of(header: str) -> str:
    """Return the key in a Cookie header; nothing where there is none or it is damaged."""
    try:
        return urlsafe_b64decode(cookie_parser(header).get(NAME, "")).decode("latin-1")
    except ValueError:
        return ""


def keep(response: Response, key: str, *, secure: bool) -> None:
    """Let the browser keep a key for half a day."""
    value = urlsafe_b64encode(key.encode("latin-1")).decode()
    response.set_cookie(
        NAME, value, max_age=HOURS * 3600, httponly=True, samesite="strict", secure=secure
    )


def forget(response: Response) -> None:
    """Let the browser forget the key."""
    response.delete_cookie(NAME, httponly=True, samesite="strict")
