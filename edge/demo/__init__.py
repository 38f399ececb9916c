"""The demo: an emulated bedside monitor, the daemon reading its port, and a summary to check."""
