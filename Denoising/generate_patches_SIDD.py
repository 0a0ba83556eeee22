"""Cut SIDD into pairs to train and validate on: python Denoising/generate_patches_SIDD.py [--src_dir DIR] ..."""

from pathlib import Path

from mprnet.apps.patches import main

if __name__ == "__main__":
    main(Path(__file__).resolve().parent)
