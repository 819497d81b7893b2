"""The tutorial's handler: FastAPI, a list of pixels as a pydantic model, PyTorch. `serve_tutorial.py RUN PORT`."""

import sys

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

import danlu

predictor = danlu.load(sys.argv[1])
model = predictor.engine.model  # type: ignore[attr-defined]
mean, std = predictor.recipe.mean[0], predictor.recipe.std[0]  # type: ignore[union-attr]
torch.set_num_threads(1)
app = FastAPI()


class Digit(BaseModel):
    pixels: list[list[float]]


@app.post("/predict")
def predict(digit: Digit) -> dict:
    image = torch.tensor(digit.pixels)[None, None] / 255
    with torch.no_grad():
        probabilities = torch.softmax(model((image - mean) / std), 1)[0]
    label = int(probabilities.argmax())
    return {"class": label, "confidence": float(probabilities[label]), "probabilities": probabilities.tolist()}


uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
