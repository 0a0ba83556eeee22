"""Control groups (cgroups) of Linux: where the limits are that containers and job schedulers set."""

from collections.abc import Iterator
from pathlib import Path


def find_control_groups(controller: str, root: Path = Path("/")) -> Iterator[tuple[int, Path]]:
    """Yield the version, 1 or 2, and the folder of this process's control group and of all groups around it.

    Folders may be missing: a container often sees only its own group, as the outermost one.

    Args:
        controller: its name in version 1, such as "memory" or "cpu".
        root: the folder with ``proc`` and ``sys``.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    mount = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            version, top = 2, mount
        elif controller in controllers.split(","):
            version, top = 1, mount / controller
        else:
            continue
        group = top / path.strip("/")
        yield from ((version, folder) for folder in (group, *group.parents) if folder.is_relative_to(top))
