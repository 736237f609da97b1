"""One use case each: config in, result out, no printing."""
