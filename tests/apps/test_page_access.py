"""Who may use the page, and which requests the gate before it lets through. The page itself is not needed here."""

import argparse
import asyncio
import base64
import json

import pytest

from mprnet import UserError
from mprnet.apps.page.access import Access, choose_access

pytest.importorskip("starlette")

from mprnet.apps.page.gate import Gate

OWN = {"host": "localhost:7860"}


@pytest.fixture
def uploaded(tmp_path):
    """A file in the page's folder."""
    (tmp_path / "page" / "upload").mkdir(parents=True)
    path = tmp_path / "page" / "upload" / "a picture.png"
    path.write_bytes(b"picture")
    return path


@pytest.fixture
def gate(uploaded):
    return make_gate(uploaded, Access(frozenset({"localhost", "::1", "page.example"}), frozenset({"page.example"})))


def make_gate(uploaded, access):
    async def page(scope, receive, send):
        """Answer every request with its body."""
        body = (await receive())["body"] if scope["method"] == "POST" else b"the page"
        headers = [(b"cache-control", b"max-age=99")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return Gate(page, access, uploaded.parents[1])


def ask(gate, path="/", method="GET", body=b"", kind="http", **headers):
    """Send a request. Return the status, the headers, and the body of the answer."""
    headers = OWN | {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    answer = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        answer.append(message)

    asyncio.run(gate(scope, receive, send))
    if kind == "websocket":
        return answer
    start, *parts = answer
    decoded = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], decoded, b"".join(part["body"] for part in parts)


def status(*arguments, **named):
    return ask(*arguments, **named)[0]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "[::1]", "[::1]:80", "page.example"])
def test_the_page_answers_to_its_own_names(gate, host):
    assert ask(gate, host=host)[::2] == (200, b"the page")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:7860", "localhost.evil.example", "evil@localhost", "localhost/", "", "192.168.1.5"],
)
def test_the_page_answers_to_no_other_name(gate, host):
    code, _, body = ask(gate, host=host)
    assert (code, b"--allow_host" in body) == (400, True)
    assert status(gate, x_forwarded_host=host) == 400


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://localhost:7860", 200),
        ("https://page.example", 200),  # a reverse proxy may send another Host on
        ("http://localhost:3000", 403),  # another program of this machine
        ("http://localhost", 403),
        ("http://evil.example", 403),
        ("ftp://localhost:7860", 403),
        ("null", 403),
    ],
)
def test_requests_of_other_origins_are_refused(gate, origin, expected):
    for path, method in (("/gradio_api/upload", "POST"), ("/config", "GET"), ("/", "GET")):
        assert status(gate, path, method, origin=origin) == expected


def test_other_sites_can_link_to_the_page_and_no_more(gate):
    for site in ("cross-site", "same-site"):
        link = {"sec_fetch_site": site, "sec_fetch_dest": "document"}
        assert status(gate, **link) == 200
        assert status(gate, "/config", **link) == 403
        assert status(gate, method="POST", **link) == 403
        assert status(gate, sec_fetch_site=site, sec_fetch_dest="iframe") == 403
        assert status(gate, sec_fetch_site=site) == 403
    for site in ("same-origin", "none"):
        assert status(gate, "/config", sec_fetch_site=site) == 200


def test_websockets_are_refused(gate):
    assert ask(gate, kind="websocket") == [{"type": "websocket.close", "code": 1008}]


def test_a_password_is_needed_for_everything(uploaded):
    gate = make_gate(uploaded, Access(frozenset({"localhost"}), login="me:sécret:word"))

    def login(text):
        return "Basic " + base64.b64encode(text.encode()).decode()

    for path in ("/", "/config", "/assets/index.js", "/gradio_api/heartbeat/x", "/no/such/page"):
        code, headers, _ = ask(gate, path)
        assert (code, headers["www-authenticate"][:5]) == (401, "Basic")
    for wrong in ("me:sécret", "you:sécret:word", "", ":", "me:sécret:word "):
        assert status(gate, authorization=login(wrong)) == 401
    right = login("me:sécret:word")
    for wrong in (right.replace("Basic", "Bearer"), "Basic", "Basic ??", "Basic é", right[6:]):
        assert status(gate, authorization=wrong) == 401
    assert status(gate, authorization=right) == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/gradio_api/proxy=http://127.0.0.1:1/"),
        ("GET", "/gradio_api/stream/a/b/c/playlist.m3u8"),
        ("GET", "/gradio_api/deep_link"),
        ("GET", "/monitoring"),
        ("GET", "/gradio_api/runs"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/call/restore"),
        ("POST", "/gradio_api/vibe-edit"),
        ("POST", "/login"),
        ("POST", "/"),
        ("PUT", "/gradio_api/upload"),
        ("OPTIONS", "/"),
    ],
)
def test_routes_that_the_page_does_not_need_are_closed(gate, method, path):
    assert status(gate, path, method) == 404


def test_only_files_of_the_page_are_served(gate, uploaded, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    (uploaded.parent / "link.png").symlink_to(secret)
    assert status(gate, f"/gradio_api/file={uploaded}") == 200
    for path in (
        secret,
        uploaded.parent / "link.png",
        f"{uploaded.parent}/../../secret.png",
        "http://127.0.0.1:1/",
        f"file://{uploaded}",
        "secret.png",
        f"{uploaded}\0",
        "/" + "n" * 5000,
    ):
        assert status(gate, f"/gradio_api/file={path}") == 403


def test_requests_name_only_files_of_the_page(gate, uploaded, tmp_path):
    join = ("/gradio_api/queue/join", "POST")
    url = f"http://localhost:7860/gradio_api/file={uploaded}".replace(" ", "%20")
    file = {"path": str(uploaded), "url": url, "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [[file], "Denoising", None], "fn_index": 2}).encode()
    assert ask(gate, *join, body)[::2] == (200, body)
    assert status(gate, *join, json.dumps([{**file, "url": None}, {"path": str(uploaded)}]).encode()) == 200
    for change in (
        {"path": "http://127.0.0.1:1/a.png"},
        {"path": f"file://{uploaded}"},
        {"path": "file:///etc/passwd"},
        {"path": "/etc/passwd"},
        {"path": str(tmp_path / "page")[:-1]},
        {"path": None},
        {"path": [str(uploaded)]},
        {"url": "http://127.0.0.1:1/a.png"},
        {"url": url.replace("localhost", "evil.example")},
        {"url": url.replace(str(uploaded.parent), "/etc")},
        {"url": "http://[/"},
        {"url": 3},
    ):
        for value in ({**file, **change}, [[{**file, **change}]], {"a": {"b": [1, {**file, **change}]}}):
            assert status(gate, *join, json.dumps(value).encode()) == 403, change


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b"[" * 50 + b"]" * 50, 403), (b"[" * 10**5, 400), (b"", 400), (b"\xff", 400), (b'"' + b"a" * 2**20 + b'"', 413)],
)
def test_odd_bodies_are_refused(gate, body, expected):
    assert status(gate, "/gradio_api/run/predict", "POST", body) == expected


def test_answers_are_not_stored_and_not_framed(gate, uploaded):
    for path, code in (("/", 200), (f"/gradio_api/file={uploaded}", 200), ("/no", 404)):
        got, headers, _ = ask(gate, path)
        assert (got, headers["cache-control"]) == (code, "no-store")
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        for rule in ("frame-ancestors 'none'", "base-uri 'self'", "form-action 'self'", "object-src 'none'"):
            assert rule in headers["content-security-policy"].split("; ")
    assert ask(gate, "/assets/index.js")[1]["cache-control"] == "max-age=99"


def options(**changed):
    return argparse.Namespace(**{"host": "127.0.0.1", "auth": None, "allow_host": []} | changed)


def test_a_page_in_the_network_needs_a_word_about_its_password(monkeypatch):
    for address in ("127.0.0.1", "127.8.8.8", "::1"):
        assert choose_access(options(), address).login is None
    for address in ("0.0.0.0", "::", "192.168.1.5"):
        with pytest.raises(UserError, match=r"--host 0\.0\.0\.0 .* --auth USER:PASSWORD .* MPRNET_AUTH"):
            choose_access(options(host="0.0.0.0"), address)
        assert choose_access(options(auth="none"), address).login is None
        assert choose_access(options(auth="me:a:b"), address).login == "me:a:b"
    monkeypatch.setenv("MPRNET_AUTH", "you:secret")
    assert choose_access(options(), "0.0.0.0").login == "you:secret"
    assert choose_access(options(), "127.0.0.1").login == "you:secret"
    assert choose_access(options(auth="me:other"), "0.0.0.0").login == "me:other"
    assert choose_access(options(auth="none"), "0.0.0.0").login is None
    for wrong in ("", "me", "me:", ":secret"):
        with pytest.raises(UserError, match="takes USER:PASSWORD with both, or none"):
            choose_access(options(auth=wrong), "127.0.0.1")


def test_the_names_of_the_page_follow_from_the_options(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Box")
    access = choose_access(options(allow_host=["Page.example"]), "127.0.0.1")
    assert all(access.is_own(name) for name in ("localhost:1", "127.0.0.1", "[::1]:7860", "page.example"))
    assert not any(access.is_own(name) for name in ("box", "192.168.1.5", "0.0.0.0"))
    access = choose_access(options(host="files.lan", auth="none"), "192.168.1.5")
    assert all(access.is_own(name) for name in ("files.lan:7860", "192.168.1.5:7860", "localhost"))
    assert not any(access.is_own(name) for name in ("192.168.1.6", "box"))
    access = choose_access(options(host="0.0.0.0", auth="none"), "0.0.0.0")
    assert all(access.is_own(name) for name in ("box:7860", "box.local", "192.168.1.5:7860", "[fe80::1]", "0.0.0.0"))
    assert not access.is_own("evil.example")
