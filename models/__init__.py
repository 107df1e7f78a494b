"""The bundled models: files only; toolace_edge/registry.py reads them. Installed as `toolace_edge.models`."""
