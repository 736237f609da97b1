"""`--model auto`: which of several models to train, by measurement."""
