"""restok: hierarchical residual 1-D image tokenizers and next-hierarchy image generators (arXiv 2601.03955)."""
