"""What is made of finished runs: tables, an HTML report, Figure 4."""
