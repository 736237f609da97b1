"""What a training takes of memory and time: measured by some of its updates before it trains."""
