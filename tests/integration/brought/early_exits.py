# Several exits returned as a list; the number of stages to run is an argument with a default; loops with zip and enumerate
from torch import nn


class Exit(nn.Module):
    def __init__(self, c, n):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(c * 4, n)

    def forward(self, x):
        return self.fc(self.pool(x).view(len(x), -1))


class Net(nn.Module):
    def __init__(self, widths=(16, 24, 32), n=4):
        super().__init__()
        self.stages, self.exits = nn.ModuleList(), nn.ModuleList()
        i = 3
        for w in widths:
            self.stages.append(
                nn.Sequential(
                    nn.Conv2d(i, w, 3, 2, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU(inplace=True)
                )
            )
            self.exits.append(Exit(w, n))
            i = w
        self.threshold = 0.9

    def forward(self, x, upto=None):
        res = []
        for k, (stage, exit_) in enumerate(zip(self.stages, self.exits)):
            x = stage(x)
            res.append(exit_(x))
            if upto is not None and k == upto:
                break
        return res


SHAPE = (3, 32, 32)


def build():
    return Net()
