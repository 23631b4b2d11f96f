"""The drain: what was claimed is moved, exactly once."""
