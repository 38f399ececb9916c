"""The daemon: core (this process) and one killable engine child; the path itself is elsewhere."""
