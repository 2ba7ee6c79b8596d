"""params.yaml as a whole."""
