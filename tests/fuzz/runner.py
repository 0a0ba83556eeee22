"""Runs many cases in processes with little memory, and reports what a user must never see.

A kind of cases is a module with ``run(seed) -> str``. It returns a word for the outcome; UserError is the outcome
``refused``. These outcomes are failures: any other exception, the death of the process, more than ``SECONDS``, and more
than ``MEMORY`` beyond what the process takes at its start.

    python tests/fuzz/runner.py pictures --count 2000 --seed 0
"""

import argparse
import faulthandler
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

SECONDS = 20
MEMORY = 2 * 2**30
_FAILURES = ("exception", "died", "hang", "memory")


class HangError(BaseException):
    """A case has taken too long."""


def raise_hang(*_: object) -> None:
    raise HangError


def work(kind: str, first: int, count: int) -> None:
    """Run cases in this process, and print one line of JSON before and after each."""
    from mprnet.errors import UserError

    module = importlib.import_module(f"fuzz.{kind}")
    module.run(-1)  # loads what is loaded once
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    faulthandler.enable(sys.stderr)
    signal.signal(signal.SIGALRM, raise_hang)
    for seed in range(first, first + count):
        print(json.dumps({"start": seed}), flush=True)
        text = ""
        start = time.perf_counter()
        signal.alarm(SECONDS)
        try:
            outcome = module.run(seed)
        except UserError as error:
            is_short = "not enough memory" in str(error)
            outcome, text = ("memory" if is_short else "refused"), str(error)
        except HangError:
            outcome, text = "hang", traceback.format_exc()
        except MemoryError:
            outcome, text = "memory", traceback.format_exc()
        except BaseException:
            outcome, text = "exception", traceback.format_exc()
        finally:
            signal.alarm(0)
        seconds = time.perf_counter() - start
        print(json.dumps({"seed": seed, "outcome": outcome, "text": text, "seconds": seconds}), flush=True)


def run(kind: str, count: int, seed: int) -> int:
    """Run cases in other processes; print the outcomes, and each failure. Return the number of failures."""
    outcomes: Counter[str] = Counter()
    slowest, next_seed, end = 0.0, seed, seed + count
    while next_seed < end:
        command = [sys.executable, __file__, kind, "--work", str(next_seed), str(end - next_seed)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            current = None
            for line in process.stdout:
                event = json.loads(line)
                if "start" in event:
                    current = event["start"]
                    continue
                next_seed, current = event["seed"] + 1, None
                outcomes[event["outcome"]] += 1
                slowest = max(slowest, event["seconds"])
                if event["outcome"] in _FAILURES:
                    print(f"{kind} {event['seed']}: {event['outcome']}\n{event['text']}", flush=True)
        if current is None and next_seed < end:
            raise SystemExit(f"{kind}: the process could not start")
        if current is not None:
            outcomes["died"] += 1
            print(f"{kind} {current}: died with status {process.returncode}", flush=True)
            next_seed = current + 1
    counts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
    print(f"{count} {kind}: {counts}; the slowest took {slowest:.1f} s")
    return sum(outcomes[outcome] for outcome in _FAILURES)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=int, nargs=2, help=argparse.SUPPRESS)
    a = parser.parse_args()
    sys.path[:0] = [str(Path(__file__).parents[1])]
    if a.work:
        work(a.kind, *a.work)
    elif run(a.kind, a.count, a.seed):
        sys.exit(1)


if __name__ == "__main__":
    main()
