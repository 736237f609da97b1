"""Results as pages that open from disk."""
