"""CondInst: backbone, FPN, FCOS head, mask branch and dynamic mask head."""
