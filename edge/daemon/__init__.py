"""The daemon: core (this process) and a killable engine child for each bundle; the path itself is
elsewhere."""
