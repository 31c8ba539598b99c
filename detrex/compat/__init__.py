"""What only code written for upstream asks for: its flow layer by layer, its methods' names."""
