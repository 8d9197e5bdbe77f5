"""Data sets, transforms, collation and the LightningDataModules."""
