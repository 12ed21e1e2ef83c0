"""Checkpoints written as ONNX: a graph of what a model computes, which onnxruntime runs without torch."""
