"""The KServe v2 protocol with Triton's extensions: `inference.GRPCInferenceService`."""
