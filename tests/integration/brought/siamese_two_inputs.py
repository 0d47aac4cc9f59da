# Two inputs through one shared encoder, absolute difference of the embeddings, one score
import torch
import torch.nn.functional as F
from torch import nn


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn1 = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(1, 8, 3),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(8),
            nn.ReflectionPad2d(1),
            nn.Conv2d(8, 16, 3),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(16),
        )
        self.fc1 = nn.Sequential(
            nn.Linear(16 * 8 * 8, 32), nn.ReLU(inplace=True), nn.Linear(32, 12)
        )
        self.score = nn.Linear(24, 1)

    def forward_once(self, x):
        output = self.cnn1(x)
        output = output.view(output.size()[0], -1)
        output = self.fc1(output)
        return output

    def forward(self, input1, input2):
        output1 = self.forward_once(input1)
        output2 = self.forward_once(input2)
        distance = torch.abs(output1 - output2)
        score = torch.sigmoid(self.score(torch.cat((distance, output1 * output2), 1)))
        return output1, output2, score, F.pairwise_distance(output1, output2)


SHAPE = [(1, 8, 8), (1, 8, 8)]


def build():
    return Siamese()
