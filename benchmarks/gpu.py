"""Measures this project on a GPU in ten minutes, part by part, and writes docs/gpu_figures.md.

    make gpu-check
    make gpu-check DEVICE=cpu    # a rehearsal in three minutes, with small sizes; prints the page and writes nothing

Each part runs in a process of its own, with a share of the time. If it fails or takes too long, the page says so, and
the next part runs. A new part needs a line in PARTS and a function that takes a ``Check`` (gpu_parts.py) and prints the
Markdown of its section.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from pkgutil import resolve_name
from typing import NamedTuple

PAGE = Path(__file__).parents[1] / "docs" / "gpu_figures.md"


class Part(NamedTuple):
    """A section of the page.

    Attributes:
        title: of the section.
        function: its name, as MODULE:NAME.
        share: of the time, in relation to the other parts. Time that a part leaves is for the later ones.
    """

    title: str
    function: str
    share: float


# Most parts take less than their share. Those that take all the time they get are last.
PARTS = [
    Part("Machine", "gpu_parts:describe_machine", 20),
    Part("Waits of a training step", "gpu_training:count_waits", 20),
    Part("Results of inference", "gpu_inference:compare_outputs", 20),
    Part("Tiles and local pooling", "gpu_inference:compare_tiles", 15),
    Part("A shortage of memory", "gpu_inference:survive_shortage", 15),
    Part("Speed of inference", "gpu_inference:measure_speed", 20),
    Part("Feeding", "gpu_training:measure_feeding", 20),
    Part("Training steps", "gpu_training:measure_steps", 40),
]


def run_part(number: int, device: str, seconds: float) -> tuple[str, bool]:
    """Run a part in another process.

    Returns:
        Its text, which ends with the problem if there was one; and whether there was none.
    """
    deadline = str(time.time() + seconds)
    command = [sys.executable, sys.argv[0], "--device", device, "--part", str(number), "--deadline", deadline]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    problem = ""
    try:
        text, _ = process.communicate(timeout=seconds)
    except BaseException as error:
        # The part may have started processes of its own.
        os.killpg(process.pid, signal.SIGKILL)
        text, _ = process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        problem = f"Stopped after {seconds:.0f} seconds."
    else:
        if process.returncode < 0:
            problem = f"Ended by {signal.Signals(-process.returncode).name}."
    text = text.strip()
    if problem:
        text = f"{text}\n\n**{problem}**".strip()
    return text, process.returncode == 0 and not problem


def run_here(number: int, device: str, deadline: float) -> int:
    """Run a part in this process, print its text, and return the exit status."""
    from gpu_parts import make_check  # imports PyTorch, which the main process does not need

    from mprnet.errors import UserError

    try:
        resolve_name(PARTS[number].function)(make_check(device, deadline))
    except UserError as error:
        print(f"**{error}**")
        return 1
    except Exception as error:
        traceback.print_exc()
        message = " ".join(str(error).split())[:300]
        print(f"\n**Failed: {type(error).__name__}: {message}**")
        return 1
    return 0


def run_all(device: str, seconds: float) -> tuple[str, bool]:
    """Run all parts. Return the page, and whether all of them have succeeded."""
    end = time.monotonic() + seconds
    sections, is_complete = [], True
    for number, part in enumerate(PARTS):
        left = end - time.monotonic()
        limit = left * part.share / sum(other.share for other in PARTS[number:])
        print(f"{part.title}: at most {limit:.0f} of {left:.0f} seconds ...", file=sys.stderr, flush=True)
        text, is_done = run_part(number, device, max(1.0, limit))
        print(text, file=sys.stderr, flush=True)
        sections.append(f"## {part.title}\n\n{text}\n")
        is_complete &= is_done
        if number == 0 and not is_done:  # there is no such device
            break
    head = "# Figures of a GPU\n\n`make gpu-check` has written this page, on the machine below.\n"
    return "\n".join([head, *sections]), is_complete


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure this project on a GPU, and write docs/gpu_figures.md.")
    parser.add_argument("--device", default="cuda", help="cpu: a rehearsal with small sizes; default: %(default)s")
    parser.add_argument("--minutes", type=float, help="for all parts; default: 10, and 3 for a rehearsal")
    parser.add_argument("--output", type=Path, help=f"default: {PAGE.name} in docs/; a rehearsal is printed only")
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.minutes is not None and not 0 < a.minutes < 10000:
        parser.error("argument --minutes: takes a number above 0")
    if a.output and not a.output.parent.is_dir():
        parser.error(f"argument --output: there is no folder {a.output.parent}")
    if a.part is not None:
        return run_here(a.part, a.device, a.deadline)
    is_rehearsal = a.device == "cpu"
    try:
        page, is_complete = run_all(a.device, 60 * (a.minutes or (3 if is_rehearsal else 10)))
    except KeyboardInterrupt:
        print("\nstopped.", file=sys.stderr)
        return 130
    output = a.output or (None if is_rehearsal else PAGE)
    if output is None:
        print(page)
    elif "## " + PARTS[1].title not in page:
        print("error: nothing was measured, so no page was written.", file=sys.stderr)
    else:
        output.write_text(page)
        print(f"written: {output}", file=sys.stderr)
    return 0 if is_complete else 1


if __name__ == "__main__":
    sys.exit(main())
