"""The machine: where, in what precision, how long, how much memory."""
