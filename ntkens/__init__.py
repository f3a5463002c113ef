"""What do wide networks, and ensembles of them, learn? The modules are the API."""
