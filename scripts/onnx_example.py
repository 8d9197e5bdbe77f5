"""``python scripts/onnx_example.py MODEL.onnx PHOTO OUT.png``: run an exported network with only numpy, Pillow and onnxruntime."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

if len(sys.argv) != 4:
    sys.exit(__doc__)
model, photo, out = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
metadata = session.get_modelmeta().custom_metadata_map
image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
scale = min(int(metadata["test_size"]) / min(image.size), int(metadata["test_max_size"]) / max(image.size))
resized = image.resize([max(int(side * scale + 0.5), 1) for side in image.size], Image.Resampling.BILINEAR)
pixels = np.array(resized)
boxes, scores, labels, masks = session.run(None, {"image": pixels.transpose(2, 0, 1)})
boxes = boxes * np.tile(np.divide(image.size, resized.size), 2)  # from pixels of the resized image to pixels of the photo
for box, score, label, mask in zip(boxes, scores, labels, masks, strict=True):
    if score >= 0.3:
        pixels[mask] = pixels[mask] // 2 + np.random.randint(0, 128, 3, dtype=np.uint8)
        print(json.loads(metadata["class_names"])[label], f"{score:.3f}", box.round(2).tolist())
Image.fromarray(pixels).save(out)
