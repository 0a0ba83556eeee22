"""Train this task's network: python Deblurring/train.py [--config FILE] [KEY VALUE ...]."""

from pathlib import Path

from data_RGB import get_training_data, get_validation_data
from MPRNet import MPRNet

from mprnet.apps.train import main

if __name__ == "__main__":
    main(MPRNet, get_training_data, get_validation_data, Path(__file__).resolve().parent)
