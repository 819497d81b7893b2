"""The least that answers: one Starlette route, json, onnxruntime; no checks, no limits. `serve_bare.py BUNDLE PORT`."""

import json
import sys

import numpy as np
import onnxruntime
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(f"{sys.argv[1]}/model.onnx", options, providers=["CPUExecutionProvider"])


async def predict(request: Request) -> JSONResponse:
    pixels = np.array(json.loads(await request.body())["pixels"], np.uint8)[None, None]
    scores = session.run(["scores"], {"inputs": pixels})[0][0]
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    label = int(shares.argmax())
    return JSONResponse({"class": label, "confidence": float(shares[label]), "probabilities": shares.tolist()})


app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
