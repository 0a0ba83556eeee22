"""Serves the page: demo.py --web."""

import argparse
import contextlib
import importlib.util
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mprnet.apps.page.restoring import Restorers
from mprnet.apps.page.sessions import Sessions
from mprnet.errors import UserError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOCAL = "127.0.0.1"
_PORT = 7860
# When the server stops, it waits so many seconds for open connections.
_SHUTDOWN_TIMEOUT = 1
# With this policy, the browser does not let the page load from or send to another server.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:"
)


def add_page_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the page."""
    group = parser.add_argument_group("a page to drop pictures on (docs/page.md)")
    group.add_argument(
        "--web", action="store_true", help="serve the page, and restore the pictures that visitors upload"
    )
    group.add_argument(
        "--host", metavar="ADDRESS", help=f"address to serve at; default: {_LOCAL}, which only this machine can reach"
    )
    group.add_argument("--port", type=int, metavar="N", help=f"port to serve at; default: {_PORT}; 0: any free port")


def serve(folder: Path, tasks: list[str], a: argparse.Namespace) -> int:
    """Serve the page until a signal stops it.

    Args:
        folder: the folder that holds the tasks' folders.
        tasks: their names.
        a: the command line.

    Returns:
        The exit status.

    Raises:
        UserError: Gradio is not installed, the address cannot be used, or there are no weights.
    """
    if importlib.util.find_spec("gradio") is None:
        raise UserError('the page needs Gradio: pip install "mprnet[web]", or pip install -e ".[web]" in a clone.')
    host, port = a.host or _LOCAL, _PORT if a.port is None else a.port
    with _listen(host, port) as listener, tempfile.TemporaryDirectory(prefix="mprnet-page-") as temporary:
        root = Path(temporary).resolve()
        # Gradio reads these when it is imported. It sends no statistics, and all its files are in ``root``.
        os.environ.update(
            GRADIO_TEMP_DIR=str(root),
            GRADIO_EXAMPLES_CACHE=str(root / "examples"),
            GRADIO_ANALYTICS_ENABLED="False",
            GRADIO_RUN_HISTORY="False",
            HF_HUB_DISABLE_TELEMETRY="1",
            HF_HUB_OFFLINE="1",
        )
        import uvicorn

        from mprnet.apps.page.layout import build_app

        sessions = Sessions(Restorers(folder, a), root, a.format)
        try:
            app = _add_policy(build_app(folder, tasks, a, sessions))
            config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT)
            host, port = listener.getsockname()[:2]
            address = f"[{host}]" if ":" in host else host
            print(f"open http://{address}:{port} in a browser; Ctrl-C ends it", flush=True)
            uvicorn.Server(config).run([listener])
        finally:
            sessions.close()
    return 0


@contextlib.contextmanager
def _listen(host: str, port: int) -> Any:
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OverflowError as error:
        raise UserError(f"there is no port {port}; --port takes a number from 0 to 65535.") from error
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"the page cannot be served at {host}:{port} ({reason}); choose another --port or --host."
        ) from error
    with listener:
        yield listener


def _add_policy(app: "ASGIApp") -> "ASGIApp":
    """Return ``app`` with _POLICY in the headers of all its responses."""

    async def app_with_policy(scope: "Scope", receive: "Receive", send: "Send") -> None:
        async def send_with_policy(message: "Message") -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"content-security-policy", _POLICY.encode())]
            await send(message)

        await app(scope, receive, send_with_policy)

    return app_with_policy
