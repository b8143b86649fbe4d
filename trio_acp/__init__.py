"""Agent sessions over ACP inside Trio programs."""
