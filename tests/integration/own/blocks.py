"""Blocks of residual networks, as people write them."""

import math

import torch
import torch.nn.functional as F
from torch import nn


class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return self.fn(x) + x


def convmixer(dim=32, depth=3, kernel_size=5, patch_size=4, n_classes=10):
    return nn.Sequential(
        nn.Conv2d(3, dim, patch_size, stride=patch_size),
        nn.GELU(),
        nn.BatchNorm2d(dim),
        *[
            nn.Sequential(
                Residual(
                    nn.Sequential(
                        nn.Conv2d(dim, dim, kernel_size, groups=dim, padding="same"),
                        nn.GELU(),
                        nn.BatchNorm2d(dim),
                    )
                ),
                nn.Conv2d(dim, dim, 1),
                nn.GELU(),
                nn.BatchNorm2d(dim),
            )
            for i in range(depth)
        ],
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(dim, n_classes),
    )


class GhostModule(nn.Module):
    def __init__(self, inp, oup, ratio=2):
        super().__init__()
        self.oup = oup
        init = math.ceil(oup / ratio)
        new = init * (ratio - 1)
        self.primary_conv = nn.Sequential(
            nn.Conv2d(inp, init, 1, bias=False), nn.BatchNorm2d(init), nn.ReLU(inplace=True)
        )
        self.cheap_operation = nn.Sequential(
            nn.Conv2d(init, new, 3, 1, 1, groups=init, bias=False),
            nn.BatchNorm2d(new),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        x1 = self.primary_conv(x)
        x2 = self.cheap_operation(x1)
        return torch.cat([x1, x2], dim=1)[:, : self.oup, :, :]


def ghost():
    return nn.Sequential(
        GhostModule(3, 15),
        GhostModule(15, 16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    )


class Bottle2neck(nn.Module):
    def __init__(self, c, width=8, scale=4):
        super().__init__()
        self.scale = scale
        self.width = width
        self.conv1 = nn.Conv2d(c, width * scale, 1)
        self.convs = nn.ModuleList(
            [nn.Conv2d(width, width, 3, padding=1) for _ in range(scale - 1)]
        )
        self.bns = nn.ModuleList([nn.BatchNorm2d(width) for _ in range(scale - 1)])
        self.nums = scale - 1
        self.conv3 = nn.Conv2d(width * scale, c, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        residual = x
        out = self.relu(self.conv1(x))
        spx = torch.split(out, self.width, 1)
        for i in range(self.nums):
            sp = spx[i] if i == 0 else sp + spx[i]  # noqa: F821
            sp = self.relu(self.bns[i](self.convs[i](sp)))
            out = sp if i == 0 else torch.cat((out, sp), 1)
        out = torch.cat((out, spx[self.nums]), 1)
        return self.relu(self.conv3(out) + residual)


def res2net():
    return nn.Sequential(nn.Conv2d(3, 16, 3), Bottle2neck(16), Bottle2neck(16), nn.Conv2d(16, 4, 1))


class SKConv(nn.Module):
    def __init__(self, f, M=2, G=4, r=4, L=8):
        super().__init__()
        d = max(f // r, L)
        self.M = M
        self.features = f
        self.convs = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(f, f, 3, padding=1 + i, dilation=1 + i, groups=G, bias=False),
                    nn.BatchNorm2d(f),
                    nn.ReLU(),
                )
                for i in range(M)
            ]
        )
        self.gap = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Sequential(nn.Conv2d(f, d, 1, bias=False), nn.BatchNorm2d(d), nn.ReLU())
        self.fcs = nn.ModuleList([nn.Conv2d(d, f, 1) for _ in range(M)])
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x):
        batch_size = x.shape[0]
        feats = [conv(x) for conv in self.convs]
        feats = torch.cat(feats, dim=1)
        feats = feats.view(batch_size, self.M, self.features, feats.shape[2], feats.shape[3])
        feats_U = torch.sum(feats, dim=1)
        feats_S = self.gap(feats_U)
        feats_Z = self.fc(feats_S)
        attention_vectors = [fc(feats_Z) for fc in self.fcs]
        attention_vectors = torch.cat(attention_vectors, dim=1)
        attention_vectors = attention_vectors.view(batch_size, self.M, self.features, 1, 1)
        attention_vectors = self.softmax(attention_vectors)
        return torch.sum(feats * attention_vectors, dim=1)


def sknet():
    return nn.Sequential(nn.Conv2d(3, 16, 3), SKConv(16), nn.Conv2d(16, 4, 1))


class SE(nn.Module):
    def __init__(self, c, r=4):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(c, c // r, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(c // r, c, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.avg_pool(x).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return x * y.expand_as(x)


def senet():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), SE(16), nn.ReLU(), nn.Conv2d(16, 32, 3), SE(32), nn.Conv2d(32, 4, 1)
    )


class CoordAtt(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ph = nn.AdaptiveAvgPool2d((None, 1))
        self.pw = nn.AdaptiveAvgPool2d((1, None))
        self.c1 = nn.Conv2d(c, 8, 1)
        self.bn = nn.BatchNorm2d(8)
        self.ch = nn.Conv2d(8, c, 1)
        self.cw = nn.Conv2d(8, c, 1)

    def forward(self, x):
        _, _, h, w = x.size()
        xh = self.ph(x)
        xw = self.pw(x).permute(0, 1, 3, 2)
        y = F.hardswish(self.bn(self.c1(torch.cat([xh, xw], dim=2))))
        xh, xw = torch.split(y, [h, w], dim=2)
        xw = xw.permute(0, 1, 3, 2)
        return x * self.cw(xw).sigmoid() * self.ch(xh).sigmoid()


def coordatt():
    return nn.Sequential(nn.Conv2d(3, 16, 3), CoordAtt(16), nn.Conv2d(16, 4, 1))


class ResNetLegacy(nn.Module):
    """options in dict, lambda shortcut (option A)"""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, 2, 1)
        self.bn2 = nn.BatchNorm2d(32)
        self.shortcut = lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8), "constant", 0)
        self.linear = nn.Linear(32, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(x)) + self.shortcut(x))
        out = F.avg_pool2d(out, out.size()[3])
        out = out.view(out.size(0), -1)
        return self.linear(out)


def option_a():
    return ResNetLegacy()


class PReLUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3)
        self.p = nn.PReLU(16)
        self.gn = nn.GroupNorm(4, 16)
        self.b = nn.Conv2d(16, 4, 3)

    def forward(self, x):
        x = self.gn(self.p(self.a(x)))
        x = F.dropout(x, 0.5, training=self.training)
        return self.b(F.relu6(x))


def prelu():
    return PReLUNet()
