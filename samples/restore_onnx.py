"""Restore a picture without PyTorch (docs/export.md): python samples/restore_onnx.py MODEL.onnx INPUT OUTPUT."""

import sys

import numpy as np
import onnxruntime
from PIL import Image

model, source, target = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
picture = np.asarray(Image.open(source).convert("RGB"), np.float32) / 255
restored, *_ = session.run(None, {"image": picture.transpose(2, 0, 1)[None]})
restored = restored[0].transpose(1, 2, 0).clip(0, 1)
Image.fromarray((255 * restored).round().astype(np.uint8)).save(target)
