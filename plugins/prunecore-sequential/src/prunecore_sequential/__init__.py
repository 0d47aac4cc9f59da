"""The layers of `torch.nn` and `nn.Sequential`, for prunecore."""
