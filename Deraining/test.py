"""Score this task's network on its benchmarks: python Deraining/test.py [--dataset NAME ...] [--weights FILE]."""

from pathlib import Path

from MPRNet import MPRNet

from mprnet.apps.test import main

if __name__ == "__main__":
    main(MPRNet, Path(__file__).resolve().parent)
