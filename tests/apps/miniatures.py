"""Small copies of the data sets in their real layouts, for tests of whole programs."""

from pathlib import Path

import cv2
import h5py
import numpy as np
import scipy.io
import torch

from mprnet import MPRNet, save_weights
from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.data.synthetic.noise import gaussian_noise

PAIRS = {
    "Deblurring": {name: f"{name}/test" for name in ("GoPro", "HIDE", "RealBlur_J", "RealBlur_R")},
    "Deraining": {name: f"test/{name}" for name in ("Test100", "Rain100H", "Rain100L", "Test1200", "Test2800")},
}
CLEAN = ("CBSD68", "Kodak24", "McMaster")  # sets of clean pictures, to which test.py adds noise
COUNT, SIZE = 3, 44


def make_pair(index: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy image and its target, (size, size, 3) uint8 each."""
    clean = dead_leaves(4, index, size)
    return gaussian_noise(np.random.default_rng(index), clean, 20), clean


def write_image(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rgb[..., ::-1])


def write_pairs(
    folder: Path, count: int, names: tuple[str, str] = ("{}.png", "{}.png"), sigma: float = 25, first: int = 0
) -> None:
    """Write ``count`` noisy pictures and their targets, from picture number ``first`` of the generator on."""
    rng = np.random.default_rng(3)
    for index in range(count):
        clean = dead_leaves(5, first + index, 48)
        for kind, image, name in zip(
            ("input", "target"), (gaussian_noise(rng, clean, sigma), clean), names, strict=True
        ):
            path = folder / kind / name.format(index)
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image[:, :, ::-1])


def write_photographs(source: Path, scenes: int = 3) -> None:
    """Write photographs in the layout of SIDD-Medium: two pairs for each scene."""
    rng = np.random.default_rng(0)
    for scene in range(1, scenes + 1):
        for number in ("010", "011"):
            target = rng.integers(0, 256, (80, 100, 3), np.uint8)
            folder = source / f"{scene:04d}_{scene:03d}_S6_00100_00060_3200_L"
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{scene:04d}_GT_SRGB_{number}.PNG"), target)
            cv2.imwrite(str(folder / f"{scene:04d}_NOISY_SRGB_{number}.PNG"), 255 - target)


def write_training_sets(task: str, datasets: Path) -> None:
    """Write the data sets that the task's training.yml names into the folder ``datasets``."""
    if task == "Deblurring":
        write_pairs(datasets / "GoPro" / "train", 10, ("GOPR1_1_{}.png",) * 2)
        write_pairs(datasets / "GoPro" / "test", 3, first=100)
    elif task == "Deraining":
        deraining = datasets / "Synthetic_Rain_Datasets"
        write_pairs(deraining / "train", 10, ("{}.jpg", "{}.png"))
        write_pairs(deraining / "test" / "Rain100L", 3, ("rain-{}.png", "norain-{}.png"), first=100)
    else:
        write_pairs(datasets / "SIDD" / "train", 10, ("{}_NOISY.png", "{}_GT.png"))
        write_pairs(datasets / "SIDD" / "val", 3, first=100)


def write_benchmarks(task: str, datasets: Path) -> None:
    """Write all benchmarks of the task's benchmarks.yml into the folder ``datasets``."""
    for number, folder in enumerate(PAIRS.get(task, {}).values()):
        for index in range(COUNT):
            for side, rgb in zip(("input", "target"), make_pair(10 * number + index), strict=True):
                write_image(datasets / folder / side / f"{index}.png", rgb)
    if task == "Denoising":
        for folder in CLEAN:
            for index in range(COUNT):
                write_image(datasets / folder / f"{index}.png", make_pair(index)[1])
        write_sidd_blocks(datasets / "SIDD" / "test")
        write_dnd(datasets / "DND" / "test")


def write_sidd_blocks(folder: Path) -> None:
    """Write SIDD's validation files, with two photographs of two blocks each."""
    folder.mkdir(parents=True)
    blocks = np.stack([np.stack([np.stack(make_pair(2 * i + b, 32)) for b in range(2)]) for i in range(2)])
    for side, key in enumerate(("ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb")):
        scipy.io.savemat(folder / f"{key}.mat", {key: blocks[:, :, side]})


def write_dnd(folder: Path) -> None:
    """Write DND in its published format: HDF5, transposed arrays, boxes by reference that count from 1."""
    (folder / "images_srgb").mkdir(parents=True)
    with h5py.File(folder / "info.mat", "w") as file:
        references = file.create_dataset("info/boundingboxes", (1, 2), h5py.ref_dtype)
        for number in range(2):
            boxes = np.array([[1 + k, 3 + k, 16 + k, 26 + k] for k in range(20)], float)
            stored = file.create_dataset(f"#refs#/{number}", data=boxes.T)
            references[0, number] = stored.ref
    for number in range(2):
        with h5py.File(folder / "images_srgb" / f"{number + 1:04d}.mat", "w") as file:
            file["InoisySRGB"] = (make_pair(number, 56)[0][:48] / np.float32(255)).T


def write_weights(path: Path) -> None:
    """Write the weights of a tiny network that changes images a little."""
    torch.manual_seed(0)
    model = MPRNet(4, 2, 3, num_cab=1, reduction=2)
    for parameter in model.tail.parameters():
        parameter.data *= 0.1
    save_weights(model, path)
