"""Batch statistics over all processes on a CPU, where PyTorch refuses its own."""

import torch
from torch import distributed, nn


class SyncOnCpu(nn.SyncBatchNorm):
    """PyTorch's own class with the same sums over the processes, in plain steps."""

    def forward(self, images):
        if not self.training:
            return super().forward(images)
        mean, spread, count = statistics(images)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(spread * count / (count - 1), self.momentum)
        return normalised(images, mean, spread, self.eps, self.weight, self.bias)


class SyncByHand(nn.Module):
    """The same without a class name that tells of it, and without weights."""

    def forward(self, images):
        mean, spread, _ = statistics(images)
        return normalised(images, mean, spread, 1e-5)


def statistics(images):
    """Mean, biased variance and number of values of each channel over all processes."""
    own = [images.sum(dim=(0, 2, 3)), images.square().sum(dim=(0, 2, 3))]
    count = torch.full((1,), float(images[:, 0].numel()))
    mean, square = (_Sum.apply(torch.stack(own)) / _Sum.apply(count)).unbind()
    return mean, square - mean.square(), _Sum.apply(count)


def normalised(images, mean, spread, eps, weight=None, bias=None):
    scale = (spread + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return images * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


class _Sum(torch.autograd.Function):
    """A sum over the processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, values):
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient):
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total
