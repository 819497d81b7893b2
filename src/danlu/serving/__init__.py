"""The service: bundles answer over HTTP, without PyTorch."""
