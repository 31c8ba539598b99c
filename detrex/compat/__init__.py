"""What only code written for upstream asks for. Our own code does without it."""
