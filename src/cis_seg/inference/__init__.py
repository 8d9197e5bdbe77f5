"""From a checkpoint to masks: prediction on images and videos, masks for given boxes, ONNX export."""
