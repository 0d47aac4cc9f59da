"""Networks that make images, as people write them."""

import torch
import torch.nn.functional as F
from torch import nn


class ESPCN(nn.Module):
    def __init__(self, r=2):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 5, padding=2)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 3 * r * r, 3, padding=1)
        self.pixel_shuffle = nn.PixelShuffle(r)

    def forward(self, x):
        return torch.sigmoid(
            self.pixel_shuffle(self.conv3(torch.tanh(self.conv2(torch.tanh(self.conv1(x))))))
        )


def espcn():
    return ESPCN()


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.LeakyReLU(0.2),
        )
        self.mu = nn.Linear(32 * 64, 10)
        self.lv = nn.Linear(32 * 64, 10)
        self.di = nn.Linear(10, 32 * 64)
        self.dec = nn.Sequential(
            nn.ConvTranspose2d(32, 16, 3, 2, 1, output_padding=1),
            nn.LeakyReLU(),
            nn.ConvTranspose2d(16, 3, 3, 2, 1, output_padding=1),
            nn.Tanh(),
        )

    def encode(self, x):
        h = torch.flatten(self.enc(x), start_dim=1)
        return [self.mu(h), self.lv(h)]

    def reparameterize(self, mu, logvar):
        if not self.training:
            return mu
        std = torch.exp(0.5 * logvar)
        return torch.randn_like(std) * std + mu

    def decode(self, z):
        return self.dec(self.di(z).view(-1, 32, 8, 8))

    def forward(self, x):
        mu, lv = self.encode(x)
        z = self.reparameterize(mu, lv)
        return self.decode(z), x, mu, lv


def vae():
    return VAE()


class Discr(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = nn.Sequential(
            nn.Conv2d(3, 16, 4, 2, 1),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(16, 32, 4, 2, 1),
            nn.InstanceNorm2d(32),
            nn.LeakyReLU(0.2, True),
        )
        self.f = nn.Linear(32 * 8 * 8 + 4, 1)

    def forward(self, x, z):
        f = self.m(x).view(x.shape[0], -1)
        return self.f(torch.cat((f, z), 1)).squeeze(1)


def discr():
    return Discr()


class Film(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Linear(5, 64)
        self.c = nn.Conv2d(3, 32, 3)
        self.o = nn.Conv2d(32, 3, 1)

    def forward(self, x, t):
        g, b = self.e(t).chunk(2, dim=1)
        h = self.c(x)
        return self.o(F.silu(h * (1 + g[:, :, None, None]) + b[..., None, None]))


def film():
    return Film()


class MultiTask(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.heads = nn.ModuleDict({"age": nn.Linear(16, 1), "sex": nn.Linear(16, 2)})

    def forward(self, x):
        f = self.backbone(x)
        return {k: h(f) for k, h in self.heads.items()}


def multitask():
    return MultiTask()
