# Selective kernels: branches stacked, summed, attention vectors stacked and softmaxed over the branches, reduced by a sum
import torch
from torch import nn


class SKConv(nn.Module):
    def __init__(self, c, M=2, G=4, r=2, L=8):
        super().__init__()
        d = max(int(c / r), L)
        self.M = M
        self.convs = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(c, c, 3, 1, 1 + i, dilation=1 + i, groups=G, bias=False),
                    nn.BatchNorm2d(c),
                    nn.ReLU(),
                )
                for i in range(M)
            ]
        )
        self.fc = nn.Linear(c, d)
        self.fcs = nn.ModuleList([nn.Linear(d, c) for _ in range(M)])
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x):
        for i, conv in enumerate(self.convs):
            fea = conv(x).unsqueeze_(dim=1)
            if i == 0:
                feas = fea
            else:
                feas = torch.cat([feas, fea], dim=1)
        fea_U = torch.sum(feas, dim=1)
        fea_s = fea_U.mean(-1).mean(-1)
        fea_z = self.fc(fea_s)
        for i, fc in enumerate(self.fcs):
            vector = fc(fea_z).unsqueeze_(dim=1)
            if i == 0:
                attention_vectors = vector
            else:
                attention_vectors = torch.cat([attention_vectors, vector], dim=1)
        attention_vectors = self.softmax(attention_vectors)
        attention_vectors = attention_vectors.unsqueeze(-1).unsqueeze(-1)
        return (feas * attention_vectors).sum(dim=1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32)
        self.sk = SKConv(32)
        self.c2 = nn.Conv2d(32, 48, 1)
        self.fc = nn.Linear(48, 4)

    def forward(self, x):
        x = torch.relu(self.b1(self.c1(x)))
        return self.fc(torch.relu(self.c2(self.sk(x))).mean([2, 3]))


SHAPE = (3, 16, 16)


def build():
    return Net()
