"""Restore your own pictures: python demo.py --task Denoising --input_dir PATH --result_dir FOLDER."""

from pathlib import Path

from mprnet.apps.restore import main

if __name__ == "__main__":
    project = Path(__file__).resolve().parent
    main(project, project / "samples")
