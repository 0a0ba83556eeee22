"""What all programs share: how they end."""

import sys
from collections.abc import Callable

from mprnet.errors import UserError


def run(program: Callable[[], int]) -> None:
    """Run ``program`` and exit with its status; a UserError is printed as its sentence, with status 1."""
    try:
        status = program()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("\nstopped.", file=sys.stderr)
        status = 130
    sys.exit(status)
