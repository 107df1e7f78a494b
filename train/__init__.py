"""Training: data in the OpenAI/TRL tool-calling form -> a checkpoint for convert/. Installed as toolace_edge.train."""
