"""CondInst: backbone, FPN or BiFPN, FCOS head, mask branch and dynamic mask head."""
