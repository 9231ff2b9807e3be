"""Where candidates come from besides the towers, and how several lists become one."""
