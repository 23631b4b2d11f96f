"""The compiled part of the drain, in Rust, and whether it is used. Python beside it does the same, and is complete."""
