# A convolution front followed by an LSTM whose last output is classified; the front is what there is to prune
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.front = nn.Sequential(
            nn.Conv1d(4, 48, 5, padding=2),
            nn.BatchNorm1d(48),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(48, 48, 5, padding=2),
            nn.BatchNorm1d(48),
            nn.ReLU(),
            nn.Conv1d(48, 24, 3, padding=1),
            nn.ReLU(),
        )
        self.lstm = nn.LSTM(24, 16, batch_first=True)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = self.front(x).permute(0, 2, 1)
        out, (h, c) = self.lstm(x)
        return self.fc(out[:, -1, :])


SHAPE = (4, 32)


def build():
    return Net()
