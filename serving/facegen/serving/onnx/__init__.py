"""The engine on ONNX Runtime: the models of a repository, run in this process."""
