"""Training algorithms: supervised fine-tuning so far."""
