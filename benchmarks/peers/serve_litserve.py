"""LitServe with onnxruntime and its batching. `serve_litserve.py BUNDLE PORT`."""

import sys

import litserve
import numpy as np
import onnxruntime


class Digits(litserve.LitAPI):
    def setup(self, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        place = f"{sys.argv[1]}/model.onnx"
        self.session = onnxruntime.InferenceSession(place, options, providers=["CPUExecutionProvider"])

    def decode_request(self, request: dict) -> np.ndarray:
        return np.array(request["pixels"], np.uint8)[None]

    def batch(self, inputs: list) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        scores = self.session.run(["scores"], {"inputs": pixels})[0]
        shares = np.exp(scores - scores.max(1, keepdims=True))
        return shares / shares.sum(1, keepdims=True)

    def unbatch(self, output: np.ndarray) -> list:
        return list(output)

    def encode_response(self, shares: np.ndarray) -> dict:
        label = int(shares.argmax())
        return {"class": label, "confidence": float(shares[label]), "probabilities": shares.tolist()}


if __name__ == "__main__":
    api = Digits(max_batch_size=16, batch_timeout=0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
