"""The loop most tutorials teach: a Dataset that converts one image at a time, a DataLoader, `.item()` every step.

With `--test` the accuracy on those images is taken after every epoch, outside the clock.
"""

from __future__ import annotations

import time

import contract
import networks
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

TEST_BATCH_SIZE = 1000


class Images(Dataset):
    def __init__(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        self.pixels = pixels
        self.labels = labels

    @classmethod
    def read(cls, path: str) -> Images:
        with np.load(path) as data:
            return cls(data["pixels"], data["labels"])

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


@torch.inference_mode()
def accuracy_on(model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    right = [(model(inputs).argmax(1) == labels).sum().item() for inputs, labels in loader]
    return sum(right) / len(loader.dataset)


def main() -> None:
    parser = contract.parser(__doc__)
    contract.add_network(parser)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--pillow", action="store_true", help="torchvision's steps for an image")
    parser.add_argument("--test", help="images to take the accuracy on after every epoch")
    parser.add_argument("--until", type=float, default=1.0, help="the test accuracy that ends the training")
    parser.add_argument("--seed", type=int, help="default: PyTorch's own")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        torch.manual_seed(arguments.seed)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    kind = PillowImages if arguments.pillow else Images
    images = kind.read(arguments.data)
    test_loader = DataLoader(kind.read(arguments.test), batch_size=TEST_BATCH_SIZE) if arguments.test else None
    loader = DataLoader(images, batch_size=contract.BATCH_SIZE, shuffle=True, num_workers=arguments.workers)
    model = networks.build(arguments.network, images.pixels.shape[1:])
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=contract.LEARNING_RATE)
    seconds: list[float] = []
    test_accuracy: list[float] = []
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
        if test_loader is not None:
            test_accuracy.append(accuracy_on(model, test_loader))
            if test_accuracy[-1] >= arguments.until:
                break
    contract.give_back(
        arguments,
        ("torch", "numpy"),
        seconds=seconds,
        images=seen,
        accuracy=right / seen,
        test_accuracy=test_accuracy,
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
