"""The claim: what is in a queue at an instant becomes one command's."""
