# Moves its input to the device of its own parameters, and makes a constant there
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(
            nn.Conv2d(3, 24, 3, 2, 1), nn.ReLU(), nn.Conv2d(24, 32, 3, 2, 1), nn.ReLU()
        )
        self.fc = nn.Linear(32, 4)

    @property
    def device(self):
        return next(self.parameters()).device

    def forward(self, x):
        x = x.to(self.device)
        offset = torch.zeros(1, device=self.device)
        return self.fc(self.a(x + offset).mean((2, 3)))


SHAPE = (3, 16, 16)


def build():
    return Net()
