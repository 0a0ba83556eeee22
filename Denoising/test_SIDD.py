"""Score this task's network on SIDD's blocks: python Denoising/test_SIDD.py [--weights FILE] [--save_images]."""

from pathlib import Path

from MPRNet import MPRNet

from mprnet.apps.test import main

if __name__ == "__main__":
    main(MPRNet, Path(__file__).resolve().parent, only=("SIDD",))
