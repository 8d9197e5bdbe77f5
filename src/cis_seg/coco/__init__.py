"""COCO's formats: the reader of instance json files, ground truth, results files and submissions."""
