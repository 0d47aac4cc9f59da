# Deformable convolution of torchvision with offsets and masks made by another convolution
import torch
from torch import nn
from torchvision.ops import DeformConv2d


class DCN(nn.Module):
    def __init__(self, i, o, k=3, stride=1, padding=1):
        super().__init__()
        self.offset_mask = nn.Conv2d(i, 3 * k * k, k, stride, padding)
        self.conv = DeformConv2d(i, o, k, stride, padding, bias=False)

    def forward(self, x):
        out = self.offset_mask(x)
        o1, o2, mask = torch.chunk(out, 3, dim=1)
        offset = torch.cat((o1, o2), dim=1)
        mask = torch.sigmoid(mask)
        return self.conv(x, offset, mask)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Sequential(
            nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU()
        )
        self.c2 = nn.Sequential(
            nn.Conv2d(24, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()
        )
        self.dcn = DCN(32, 32)
        self.bn = nn.BatchNorm2d(32)
        self.out = nn.Conv2d(32, 6, 1)

    def forward(self, x):
        return self.out(torch.relu(self.bn(self.dcn(self.c2(self.c1(x))))))


SHAPE = (3, 16, 16)


def build():
    return Net()
