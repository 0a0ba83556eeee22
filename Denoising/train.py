"""Train the denoiser: python Denoising/train.py [--config FILE] [KEY VALUE ...]."""

from pathlib import Path

from MPRNet import MPRNet

from mprnet.apps.train import main

if __name__ == "__main__":
    main(MPRNet, Path(__file__).parent)
