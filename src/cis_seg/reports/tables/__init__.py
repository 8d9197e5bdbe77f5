"""The tables of the paper and of all other runs, as Markdown, CSV and a plot."""
