"""Drawing of images with boxes and masks."""
