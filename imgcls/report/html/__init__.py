"""Self-contained HTML pages: one file, no network, light and dark, on a screen and on paper."""
