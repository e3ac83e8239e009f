"""Running clusters: boot, install, verify, and what one does with them afterwards."""
