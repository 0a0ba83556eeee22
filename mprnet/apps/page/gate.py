"""What stands before Gradio: it lets only those requests through that the page itself makes."""

import base64
import binascii
import json
import os
import re
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mprnet.apps.page.access import Access

_FILE = "/gradio_api/file="
_UPLOAD = "/gradio_api/upload"
_UNCHANGING = r"/(?:assets|static|svelte)/.+|/favicon\.ico"
# All that the page needs of Gradio. What is not here could fetch from other servers (proxy=, file=http...), or is of no
# use to the page.
_READ = re.compile(
    rf"/|/config|/theme\.css|{_UNCHANGING}|"
    r"/gradio_api/(?:info|startup-events|theme\.css|upload_progress|queue/data|heartbeat/\w+|file=.+)"
)
_ROUTES = {
    "GET": _READ,
    "HEAD": _READ,
    "POST": re.compile(rf"{_UPLOAD}|/gradio_api/(?:queue/join|run/predict|cancel|reset)"),
}
_CACHED = re.compile(_UNCHANGING)
_HEADERS = {
    # The browser does not let the page load from or send to another server, nor another site frame the page.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
        "frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
# Of a request that is not an upload: bytes, and values in values.
_LARGEST_BODY, _DEEPEST = 2**20, 20


class Gate:
    """A web application that passes requests on to the page, or refuses them with a sentence.

    Args:
        app: the page.
        access: who may use it.
        folder: the only folder whose files requests may name, an absolute path without links.
    """

    def __init__(self, app: ASGIApp, access: Access, folder: Path) -> None:
        self._app = app
        self._access = access
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI says."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":  # the page uses no WebSockets
            await send({"type": "websocket.close", "code": 1008})
        else:
            request = Request(scope, receive)
            refusal = self._refuse(request)
            if refusal is None and request.method == "POST" and request.scope["path"] != _UPLOAD:
                body, refusal = await self._read_body(request)
                receive = _replay(body, receive)
            await (refusal or self._app)(scope, receive, _with_headers(request, send))

    def _refuse(self, request: Request) -> PlainTextResponse | None:
        """Return why a request is refused before its body is read; None if it is not."""
        # Gradio builds addresses of files from the second one.
        headers = (*request.headers.getlist("host"), *request.headers.getlist("x-forwarded-host"))
        hosts = [host.strip() for header in headers for host in header.split(",")]
        if not hosts or not all(self._access.is_own(host) for host in hosts):
            return PlainTextResponse("This page is not known by that name: see --host and --allow_host.", 400)
        if self._is_from_another_site(request, hosts):
            return PlainTextResponse("Requests from other web sites are refused.", 403)
        if not self._has_password(request):
            question = {"WWW-Authenticate": 'Basic realm="MPRNet", charset="UTF-8"'}
            return PlainTextResponse("This page needs a password.", 401, question)
        path = request.scope["path"]
        routes = _ROUTES.get(request.method)
        if routes is None or not routes.fullmatch(path):
            return PlainTextResponse("There is no such page.", 404)
        if path.startswith(_FILE) and not self._is_own_file(path.removeprefix(_FILE)):
            return PlainTextResponse("This file is not one of the page.", 403)
        return None

    def _is_from_another_site(self, request: Request, hosts: list[str]) -> bool:
        headers = request.headers
        if any(not self._access.is_own_origin(origin, hosts) for origin in headers.getlist("origin")):
            return True
        # A link to the page may be on another site, but only to the page itself, and not in a frame.
        is_page = request.method == "GET" and request.scope["path"] == "/"
        is_link = is_page and headers.get("sec-fetch-dest") == "document"
        return headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not is_link

    def _has_password(self, request: Request) -> bool:
        if self._access.login is None:
            return True
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        try:
            login = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            return False
        # It takes the same time for any wrong password.
        return secrets.compare_digest(login, self._access.login.encode()) and scheme.lower() == "basic"

    async def _read_body(self, request: Request) -> tuple[bytes, PlainTextResponse | None]:
        """Return a request's body, and why it is refused; None if it is not."""
        body = b""
        try:
            async for part in request.stream():
                body += part
                if len(body) > _LARGEST_BODY:
                    return b"", PlainTextResponse("This request is too large.", 413)
            value = json.loads(body)
        except (ClientDisconnect, ValueError, RecursionError):
            return b"", PlainTextResponse("This request is not JSON.", 400)
        if self._names_other_files(value):
            return b"", PlainTextResponse("Only files that were uploaded to this page can be used.", 403)
        return body, None

    def _names_other_files(self, value: Any, depth: int = 0) -> bool:
        """Return True if a file in ``value`` is not one of the page. Gradio would copy it, or download its URL."""
        if depth > _DEEPEST:
            return True
        if isinstance(value, dict):
            if "path" in value and not self._is_own_file(value["path"]):
                return True
            if value.get("url") is not None and not self._is_own_url(value["url"]):
                return True
            value = list(value.values())
        return isinstance(value, list) and any(self._names_other_files(each, depth + 1) for each in value)

    def _is_own_file(self, path: Any) -> bool:
        if not isinstance(path, str) or "\0" in path or not Path(path).is_absolute():
            return False
        return Path(os.path.realpath(path)).is_relative_to(self._folder)

    def _is_own_url(self, url: Any) -> bool:
        try:
            parts = urlsplit(url if isinstance(url, str) else "")
        except ValueError:
            return False
        own_place = not parts.netloc or self._access.is_own(parts.netloc)
        return own_place and self._is_own_file(unquote(parts.path).partition(_FILE)[2])


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a function that gives ``body`` first, and then what ``receive`` gives."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


def _with_headers(request: Request, send: Send) -> Send:
    """Return a function that sends responses with _HEADERS. Only the files of Gradio itself may be stored."""
    headers = _HEADERS if _CACHED.fullmatch(request.scope["path"]) else {**_HEADERS, "Cache-Control": "no-store"}

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = list(message.get("headers", ()))
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return send_with_headers
