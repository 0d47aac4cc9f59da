# Dense block that takes lists, concatenates in a closure and may be checkpointed; transition as a Sequential subclass
import torch
import torch.nn.functional as F
import torch.utils.checkpoint as cp
from torch import nn


def _bn_function_factory(norm, relu, conv):
    def bn_function(*inputs):
        concated_features = torch.cat(inputs, 1)
        bottleneck_output = conv(relu(norm(concated_features)))
        return bottleneck_output

    return bn_function


class _DenseLayer(nn.Module):
    def __init__(self, i, growth, bn_size, drop_rate, efficient=True):
        super().__init__()
        (self.add_module("norm1", nn.BatchNorm2d(i)),)
        (self.add_module("relu1", nn.ReLU(inplace=True)),)
        (
            self.add_module(
                "conv1", nn.Conv2d(i, bn_size * growth, kernel_size=1, stride=1, bias=False)
            ),
        )
        (self.add_module("norm2", nn.BatchNorm2d(bn_size * growth)),)
        (self.add_module("relu2", nn.ReLU(inplace=True)),)
        (
            self.add_module(
                "conv2",
                nn.Conv2d(bn_size * growth, growth, kernel_size=3, stride=1, padding=1, bias=False),
            ),
        )
        self.drop_rate = drop_rate
        self.efficient = efficient

    def forward(self, *prev_features):
        bn_function = _bn_function_factory(self.norm1, self.relu1, self.conv1)
        if self.efficient and any(prev_feature.requires_grad for prev_feature in prev_features):
            bottleneck_output = cp.checkpoint(bn_function, *prev_features)
        else:
            bottleneck_output = bn_function(*prev_features)
        new_features = self.conv2(self.relu2(self.norm2(bottleneck_output)))
        if self.drop_rate > 0:
            new_features = F.dropout(new_features, p=self.drop_rate, training=self.training)
        return new_features


class _DenseBlock(nn.Module):
    def __init__(self, n, i, growth):
        super().__init__()
        for k in range(n):
            self.add_module("denselayer%d" % (k + 1), _DenseLayer(i + k * growth, growth, 2, 0.0))

    def forward(self, init_features):
        features = [init_features]
        for name, layer in self.named_children():
            new_features = layer(*features)
            features.append(new_features)
        return torch.cat(features, 1)


class _Transition(nn.Sequential):
    def __init__(self, i, o):
        super().__init__()
        self.add_module("norm", nn.BatchNorm2d(i))
        self.add_module("relu", nn.ReLU(inplace=True))
        self.add_module("conv", nn.Conv2d(i, o, 1, bias=False))
        self.add_module("pool", nn.AvgPool2d(2, 2))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, 16, 3, 1, 1, bias=False))
        self.features.add_module("denseblock1", _DenseBlock(3, 16, 8))
        self.features.add_module("transition1", _Transition(40, 20))
        self.features.add_module("denseblock2", _DenseBlock(3, 20, 8))
        self.features.add_module("norm_final", nn.BatchNorm2d(44))
        self.classifier = nn.Linear(44, 5)
        for name, param in self.named_parameters():
            if "conv" in name and "weight" in name:
                n = param.size(0) * param.size(2) * param.size(3)
                param.data.normal_().mul_((2.0 / n) ** 0.5)

    def forward(self, x):
        features = self.features(x)
        out = F.relu(features, inplace=True)
        out = F.adaptive_avg_pool2d(out, (1, 1))
        out = torch.flatten(out, 1)
        return self.classifier(out)


SHAPE = (3, 16, 16)


def build():
    return Net()
