"""Serves the page: demo.py --web."""

import argparse
import contextlib
import importlib.util
import ipaddress
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from mprnet.apps.options import parse_positive
from mprnet.apps.page.access import OPEN, PASSWORD_VARIABLE, choose_access
from mprnet.apps.page.restoring import Restorers
from mprnet.apps.page.sessions import Sessions
from mprnet.errors import UserError

_LOCAL = "127.0.0.1"
_PORT = 7860
# For 24 megapixels, two cores need about half an hour with the published weights for deblurring. Slower ones may need
# three times as long.
_MEGAPIXELS, _MINUTES = 64, 120
# When the server stops, it waits so many seconds for open connections.
_SHUTDOWN_TIMEOUT = 1


def add_page_options(parser: argparse.ArgumentParser) -> list[str]:
    """Add the options of the page. Return the names of those that go only with --web."""
    group = parser.add_argument_group("a page to drop pictures on (docs/page.md)")
    group.add_argument(
        "--web", action="store_true", help="serve the page, and restore the pictures that visitors upload"
    )
    options = [
        group.add_argument(
            "--host",
            metavar="ADDRESS",
            default=_LOCAL,
            help=f"address to serve at; default: {_LOCAL}, which only this machine can reach",
        ),
        group.add_argument(
            "--port", type=int, metavar="N", default=_PORT, help=f"port to serve at; default: {_PORT}; 0: any free port"
        ),
        group.add_argument(
            "--auth",
            metavar="USER:PASSWORD",
            help=f"ask visitors for this password; {OPEN}: for none; default: what the environment variable "
            f"{PASSWORD_VARIABLE} holds; needed with --host, unless only this machine can reach it",
        ),
        group.add_argument(
            "--allow_host",
            metavar="NAME",
            action="append",
            default=[],
            help="another name of the page, such as that of a reverse proxy; can be repeated",
        ),
        *(
            group.add_argument(
                name, type=parse_positive, metavar="N", default=default, help=f"{text}; default: {default}"
            )
            for name, default, text in (
                ("--max_megapixels", _MEGAPIXELS, "refuse larger pictures"),
                ("--max_minutes", _MINUTES, "stop a picture that takes longer"),
            )
        ),
    ]
    return [option.dest for option in options]


def serve(folder: Path, tasks: list[str], a: argparse.Namespace, samples: Path | None) -> int:
    """Serve the page until a signal stops it.

    Args:
        folder: the folder that holds the tasks' folders.
        tasks: their names.
        a: the command line.
        samples: the folder of the sample pictures to try, TASK/NAME.png; None: there are none.

    Returns:
        The exit status.

    Raises:
        UserError: Gradio is not installed, the address cannot be used, a password is missing, or there are no weights.
    """
    if importlib.util.find_spec("gradio") is None:
        raise UserError('the page needs Gradio: pip install "mprnet[web]", or pip install -e ".[web]" in a clone.')
    with _listen(a.host, a.port) as listener, tempfile.TemporaryDirectory(prefix="mprnet-page-") as temporary:
        host, port = listener.getsockname()[:2]
        access = choose_access(a, host)
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

        from mprnet.apps.page.gate import Gate
        from mprnet.apps.page.layout import build_app

        sessions = Sessions(Restorers(folder, a), root, a.format)
        try:
            app = Gate(build_app(folder, tasks, a, sessions, samples), access, root)
            config = uvicorn.Config(app, ws="none", log_level="warning", timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT)
            print(f"{_describe_address(host, port)}; Ctrl-C ends it", flush=True)
            uvicorn.Server(config).run([listener])
        finally:
            sessions.close()
    return 0


def _describe_address(host: str, port: int) -> str:
    """Return what to open in a browser. An address that stands for all addresses is of no use there."""
    if ipaddress.ip_address(host).is_unspecified:
        local = "[::1]" if ":" in host else _LOCAL
        return f"open http://{local}:{port} in a browser, and http://{socket.gethostname()}:{port} on other machines"
    return f"open http://{f'[{host}]' if ':' in host else host}:{port} in a browser"


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
