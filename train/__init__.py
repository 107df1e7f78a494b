"""Training: data in the OpenAI/TRL tool-calling form -> a checkpoint that convert/ quantizes. Installed as toolace_edge.train."""
