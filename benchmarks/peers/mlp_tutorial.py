"""The loop most tutorials teach: a Dataset that converts one image at a time, a DataLoader, `.item()` every step."""

from __future__ import annotations

import time

import contract
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class Images(Dataset):
    def __init__(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        self.pixels = pixels
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self.pixels[index]).float() / 255
        return (image - 0.5) / 0.5, int(self.labels[index])


class PillowImages(Images):
    """What torchvision's MNIST data set with ToTensor and Normalize does for an image, step by step.

    Written out because torchvision has no processor-only build everywhere; the tutorials use just this.
    """

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(torch.from_numpy(self.pixels[index].squeeze()).numpy())
        tensor = torch.from_numpy(np.array(picture, np.uint8, copy=True))
        tensor = tensor.view(picture.size[1], picture.size[0], 1).permute((2, 0, 1)).contiguous()
        tensor = tensor.to(dtype=torch.get_default_dtype()).div(255).clone()
        mean = torch.as_tensor((0.5,), dtype=tensor.dtype).view(-1, 1, 1)
        std = torch.as_tensor((0.5,), dtype=tensor.dtype).view(-1, 1, 1)
        return tensor.sub_(mean).div_(std), int(self.labels[index])


def main() -> None:
    parser = contract.parser(__doc__)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--pillow", action="store_true", help="torchvision's steps for an image")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with np.load(arguments.data) as data:
        images = (PillowImages if arguments.pillow else Images)(data["pixels"], data["labels"])
    loader = DataLoader(images, batch_size=contract.BATCH_SIZE, shuffle=True, num_workers=arguments.workers)
    first, second = contract.WIDTHS
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(images.pixels[0].size, first),
        nn.ReLU(),
        nn.Linear(first, second),
        nn.ReLU(),
        nn.Linear(second, contract.CLASSES),
    )
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=contract.LEARNING_RATE)
    seconds = []
    for _ in range(arguments.epochs):
        started = time.perf_counter()
        model.train()
        loss_sum, right, seen = 0.0, 0, 0
        for inputs, labels in loader:
            optimizer.zero_grad()
            scores = model(inputs)
            loss = loss_function(scores, labels)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(labels)
            right += (scores.argmax(1) == labels).sum().item()
            seen += len(labels)
        seconds.append(time.perf_counter() - started)
    contract.give_back(
        arguments,
        ("torch", "numpy"),
        seconds=seconds,
        images=seen,
        accuracy=right / seen,
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
