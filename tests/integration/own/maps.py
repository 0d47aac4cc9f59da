"""Networks from maps to maps, and detectors, as people write them."""

import torch
import torch.nn.functional as F
from torch import nn


class DoubleConv(nn.Module):
    def __init__(self, cin, cout, mid=None):
        super().__init__()
        mid = mid or cout
        self.double_conv = nn.Sequential(
            nn.Conv2d(cin, mid, 3, padding=1, bias=False),
            nn.BatchNorm2d(mid),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid, cout, 3, padding=1, bias=False),
            nn.BatchNorm2d(cout),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(a, b))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, a, b, bilinear):
        super().__init__()
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.conv = DoubleConv(a, b, a // 2)
        else:
            self.up = nn.ConvTranspose2d(a, a // 2, kernel_size=2, stride=2)
            self.conv = DoubleConv(a, b)

    def forward(self, x1, x2):
        x1 = self.up(x1)
        diffY = x2.size()[2] - x1.size()[2]
        diffX = x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [diffX // 2, diffX - diffX // 2, diffY // 2, diffY - diffY // 2])
        x = torch.cat([x2, x1], dim=1)
        return self.conv(x)


class OutConv(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.conv = nn.Conv2d(a, b, 1)

    def forward(self, x):
        return self.conv(x)


class UNet(nn.Module):
    def __init__(self, n_channels=3, n_classes=2, bilinear=False):
        super().__init__()
        self.n_channels = n_channels
        self.n_classes = n_classes
        self.bilinear = bilinear
        self.inc = DoubleConv(n_channels, 16)
        self.down1 = Down(16, 32)
        self.down2 = Down(32, 64)
        f = 2 if bilinear else 1
        self.down3 = Down(64, 128 // f)
        self.up1 = Up(128, 64 // f, bilinear)
        self.up2 = Up(64, 32 // f, bilinear)
        self.up3 = Up(32, 16, bilinear)
        self.outc = OutConv(16, n_classes)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x = self.up1(x4, x3)
        x = self.up2(x, x2)
        x = self.up3(x, x1)
        return self.outc(x)


def unet():
    return UNet()


def unet_bilinear():
    return UNet(bilinear=True)


class FPN(nn.Module):
    def __init__(self):
        super().__init__()
        self.c2 = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU())
        self.c3 = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
        self.c4 = nn.Sequential(nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU())
        self.lat = nn.ModuleList([nn.Conv2d(c, 16, 1) for c in (16, 32, 64)])
        self.smooth = nn.ModuleList([nn.Conv2d(16, 16, 3, padding=1) for _ in range(3)])
        self.cls = nn.Conv2d(16, 4, 3, padding=1)

    def _up(self, x, y):
        _, _, H, W = y.size()
        return F.interpolate(x, size=(H, W), mode="nearest") + y

    def forward(self, x):
        c2 = self.c2(x)
        c3 = self.c3(c2)
        c4 = self.c4(c3)
        p = [lat(c) for lat, c in zip(self.lat, (c2, c3, c4), strict=True)]
        for i in (1, 0):
            p[i] = self._up(p[i + 1], p[i])
        return [self.cls(F.relu(s(q))) for s, q in zip(self.smooth, p, strict=True)]


def fpn():
    return FPN()


class HR(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1)
        self.t = nn.ModuleList([nn.Conv2d(16, 16, 3, 1, 1), nn.Conv2d(16, 32, 3, 2, 1)])
        self.fuse_layers = nn.ModuleList(
            [
                nn.ModuleList(
                    [
                        nn.Identity(),
                        nn.Sequential(
                            nn.Conv2d(32, 16, 1), nn.BatchNorm2d(16), nn.Upsample(scale_factor=2)
                        ),
                    ]
                ),
                nn.ModuleList(
                    [nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32)), nn.Identity()]
                ),
            ]
        )
        self.last = nn.Conv2d(48, 5, 1)

    def forward(self, x):
        x = self.stem(x)
        xs = [t(x) for t in self.t]
        ys = []
        for i in range(len(self.fuse_layers)):
            y = xs[0] if i == 0 else self.fuse_layers[i][0](xs[0])
            for j in range(1, 2):
                y = y + xs[j] if i == j else y + self.fuse_layers[i][j](xs[j])
            ys.append(F.relu(y))
        h, w = ys[0].size(2), ys[0].size(3)
        return self.last(
            torch.cat(
                [ys[0], F.interpolate(ys[1], size=(h, w), mode="bilinear", align_corners=False)], 1
            )
        )


def hrnet():
    return HR()


class DeepSup(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, 1, 1)
        self.b = nn.Conv2d(16, 16, 3, 1, 1)
        self.aux = nn.Conv2d(16, 2, 1)
        self.o = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        a = F.relu(self.a(x))
        b = F.relu(self.b(a))
        if self.training:
            return self.o(b), self.aux(a)
        return self.o(b)


def deepsup():
    return DeepSup()


class C3D(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv3d(3, 16, 3, padding=1)
        self.p = nn.MaxPool3d((1, 2, 2))
        self.d = nn.Conv3d(16, 32, (3, 1, 1), padding=(1, 0, 0))
        self.f = nn.Linear(32 * 4 * 4 * 4, 7)

    def forward(self, x):
        x = self.p(torch.relu_(self.c(x)))
        x = self.d(x).relu()
        x = x.reshape(-1, 32 * 4 * 4 * 4)
        return self.f(F.dropout(x, training=self.training))


def c3d():
    return C3D()
