"""What all tests share: how long they wait, what they name, and that they leave nothing behind."""
