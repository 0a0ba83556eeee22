"""Arguments of the benchmarks' command lines; a wrong one ends the program with a sentence."""

import argparse

import torch

from mprnet.errors import UserError
from mprnet.inference.precision import choose_device


def parse_count(text: str) -> int:
    """Return a whole number above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"takes a whole number above 0, not {text}")
    return int(text)


def parse_size(text: str) -> tuple[int, int]:
    """Return the height and width that HEIGHT or HEIGHTxWIDTH says. The published network takes multiples of 8 only."""
    height, _, width = text.partition("x")
    size = parse_count(height), parse_count(width or height)
    if any(side % 8 for side in size):
        raise argparse.ArgumentTypeError(f"takes multiples of 8, not {text}")
    return size


def parse_device(text: str) -> torch.device:
    """Return a device that is there."""
    try:
        return choose_device(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
