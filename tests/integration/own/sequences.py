"""Networks over signals, points and vectors, as people write them."""

import torch
import torch.nn.functional as F
from torch import nn


class Chomp1d(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.chomp_size = n

    def forward(self, x):
        return x[:, :, : -self.chomp_size].contiguous()


class TemporalBlock(nn.Module):
    def __init__(self, a, b, k, s, d, p, dropout=0.2):
        super().__init__()
        self.conv1 = nn.Conv1d(a, b, k, stride=s, padding=p, dilation=d)
        self.chomp1 = Chomp1d(p)
        self.relu1 = nn.ReLU()
        self.dropout1 = nn.Dropout(dropout)
        self.conv2 = nn.Conv1d(b, b, k, stride=s, padding=p, dilation=d)
        self.chomp2 = Chomp1d(p)
        self.relu2 = nn.ReLU()
        self.dropout2 = nn.Dropout(dropout)
        self.net = nn.Sequential(
            self.conv1,
            self.chomp1,
            self.relu1,
            self.dropout1,
            self.conv2,
            self.chomp2,
            self.relu2,
            self.dropout2,
        )
        self.downsample = nn.Conv1d(a, b, 1) if a != b else None
        self.relu = nn.ReLU()

    def forward(self, x):
        out = self.net(x)
        res = x if self.downsample is None else self.downsample(x)
        return self.relu(out + res)


class TCN(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [TemporalBlock(4 if i == 0 else 16, 16, 3, 1, 2**i, 2 * 2**i) for i in range(3)]
        self.network = nn.Sequential(*layers)
        self.linear = nn.Linear(16, 5)

    def forward(self, x):
        return self.linear(self.network(x)[:, :, -1])


def tcn():
    return TCN()


class WaveNet(nn.Module):
    def __init__(self, layers=3, c=16):
        super().__init__()
        self.start = nn.Conv1d(1, c, 1)
        self.filters = nn.ModuleList()
        self.gates = nn.ModuleList()
        self.res = nn.ModuleList()
        self.skips = nn.ModuleList()
        for i in range(layers):
            d = 2**i
            self.filters.append(nn.Conv1d(c, c, 2, dilation=d))
            self.gates.append(nn.Conv1d(c, c, 2, dilation=d))
            self.res.append(nn.Conv1d(c, c, 1))
            self.skips.append(nn.Conv1d(c, 24, 1))
        self.end = nn.Conv1d(24, 8, 1)

    def forward(self, x):
        x = self.start(x)
        skip = 0
        for f, g, r, s in zip(self.filters, self.gates, self.res, self.skips, strict=True):
            residual = x
            x = torch.tanh(f(x)) * torch.sigmoid(g(x))
            sk = s(x)
            try:
                skip = skip[:, :, -sk.size(2) :]
            except Exception:
                skip = 0
            skip = sk + skip
            x = r(x) + residual[:, :, -x.size(2) :]
        return self.end(F.relu(skip))


def wavenet():
    return WaveNet()


class PN(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv1d(3, 16, 1)
        self.c2 = nn.Conv1d(16, 32, 1)
        self.fc1 = nn.Linear(32, 16)
        self.fc2 = nn.Linear(16, 9)
        self.conv = nn.Conv1d(3, 24, 1)
        self.bn = nn.BatchNorm1d(24)
        self.out = nn.Linear(24, 4)
        self.register_buffer("iden", torch.eye(3).flatten()[None], persistent=True)

    def forward(self, x):
        t = F.relu(self.c2(F.relu(self.c1(x))))
        t = torch.max(t, 2, keepdim=True)[0].view(-1, 32)
        t = self.fc2(F.relu(self.fc1(t))) + self.iden
        t = t.view(-1, 3, 3)
        x = torch.bmm(x.transpose(2, 1), t).transpose(2, 1)
        x = F.relu(self.bn(self.conv(x)))
        return F.log_softmax(self.out(torch.max(x, 2)[0]), dim=1)


def pointnet():
    return PN()


class Highway(nn.Module):
    def __init__(self):
        super().__init__()
        self.i = nn.Linear(10, 32)
        self.h = nn.Linear(32, 32)
        self.t = nn.Linear(32, 32)
        self.o = nn.Linear(32, 2)

    def forward(self, x):
        x = self.i(x)
        t = torch.sigmoid(self.t(x))
        x = t * F.relu(self.h(x)) + (1.0 - t) * x
        return self.o(x)


def highway():
    return Highway()


class Moe(nn.Module):
    def __init__(self):
        super().__init__()
        self.g = nn.Linear(8, 3)
        self.ex = nn.ModuleList(
            [nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 6)) for _ in range(3)]
        )
        self.o = nn.Linear(6, 2)

    def forward(self, x):
        w = F.softmax(self.g(x), dim=-1)
        y = torch.stack([e(x) for e in self.ex], dim=1)
        return self.o((w.unsqueeze(-1) * y).sum(1))


def moe():
    return Moe()


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 12)
        )
        self.out = nn.Linear(12, 1)

    def forward(self, a, b):
        a, b = self.f(a), self.f(b)
        return torch.sigmoid(self.out(torch.abs(a - b)))


def siamese():
    return Siamese()
