"""From a trained model to a bundle: recipes, ONNX export, packing."""
