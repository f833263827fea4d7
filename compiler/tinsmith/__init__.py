"""tinsmith: compiles ONNX models for edge devices."""

__version__ = "0.1.0"
