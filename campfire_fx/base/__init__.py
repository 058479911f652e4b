"""Base: what every room may use and what knows nothing of channels: errors, files, copies of models."""
