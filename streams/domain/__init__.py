"""Pure values and rules: no I/O, no clock, no library that has either."""
