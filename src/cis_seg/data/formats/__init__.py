"""Labels as other tools write them (YOLO, Pascal VOC, labelme), read as COCO json and written from it.

The readers are our own: ``supervision`` rounds polygons to whole pixels and fills them one pixel too wide, and writes an instance of
several parts as several instances. The tests use it as a second opinion.
"""
