"""What lies on disk, written and read back; loads no torch."""
