"""FP32 ONNX to FP16 and INT8 ONNX, in the dialects that the engines take."""
