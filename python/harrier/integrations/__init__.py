"""Other libraries' models on Harrier's attention. Each module is imported by itself: `harrier.integrations.transformers`."""
