"""The command `trio-acp`."""
