"""Convolutional networks as a CPU needs them: order in memory, gradients in bfloat16."""

from __future__ import annotations

import torch
from timm.layers import Conv2dSame, ScaledStdConv2d, StdConv2d
from timm.layers.padding import pad_same
from torch import nn


def make_fast(network: nn.Module) -> nn.Module:
    """Keep a pixel's channels side by side, and change convolutions to those below.

    Names, values and results of the network stay as they are. Returns the network.
    """
    for module in network.modules():
        if type(module) in _FAST and _is_plainly_depthwise(module):
            module.__class__ = _FAST[type(module)]
        elif type(module) in _SAFE:
            module.__class__ = _SAFE[type(module)]
    return network.to(memory_format=torch.channels_last)


def _is_plainly_depthwise(convolution: nn.Conv2d) -> bool:
    """Tell whether each channel has one filter, with zeros beyond the border and no gaps."""
    return (
        1 < convolution.groups == convolution.in_channels == convolution.out_channels
        and convolution.padding_mode == "zeros"
        and not isinstance(convolution.padding, str)
        and convolution.dilation == (1, 1)
    )


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution in bfloat16 whose slow gradients are computed in float32.

    On CPUs the library has no fast bfloat16 kernel for two of them: that of the images where the
    stride is above 1 (50 to 500 times slower than float32), and that of filters above 3×3 (3 to 4
    times). That of filters which reach beyond the whole image is wrong there: see _Safe.
    """

    @staticmethod
    def forward(ctx, images, weight, stride, padding):
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return nn.functional.conv2d(images, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx, gradient):
        images, weight = ctx.saved_tensors
        strided, large = max(ctx.stride) > 1, max(weight.shape[2:]) > 3
        large = large or _is_small(images, weight.shape[2:], ctx.stride)
        found = [None, None]
        for place, slow in enumerate((strided, large)):
            if ctx.needs_input_grad[place]:
                given = gradient, images, weight
                if slow:
                    given = [tensor.float() for tensor in given]
                mask = [place == 0, place == 1, False]
                found[place] = torch.ops.aten.convolution_backward(
                    *given, None, ctx.stride, ctx.padding, [1, 1], False, [0, 0], len(weight), mask
                )[place].to(gradient.dtype)
        return *found, None, None


def _in_training_on_a_cpu(images: torch.Tensor) -> bool:
    return (
        images.device.type == "cpu"
        and torch.is_grad_enabled()
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


def _is_small(images: torch.Tensor, reach: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Tell whether some weight of a filter may meet nothing but what is added at the border."""
    return min(images.shape[-2:]) < max(*reach, *stride)


class _Safe(nn.Conv2d):
    """A convolution of torch or timm, in float32 where images are smaller than its filters.

    In bfloat16 on CPUs, the library (torch 2.11 and 2.15) leaves the gradient of a weight that
    meets no pixel unwritten: what is found is what lay in memory before, often not finite.
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        if _in_training_on_a_cpu(images) and _is_small(images, reach, self.stride):
            with torch.autocast("cpu", enabled=False):
                return super().forward(images.float()).bfloat16()
        return super().forward(images)


class _FastConv2d(nn.Conv2d):
    """A depthwise convolution that pads by a fixed number of pixels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not _in_training_on_a_cpu(images):
            return super().forward(images)
        images, weight = images.bfloat16(), self.weight.bfloat16()
        filtered = _Depthwise.apply(images, weight, self.stride, self.padding)
        return filtered if self.bias is None else filtered + self.bias.bfloat16().view(-1, 1, 1)


class _FastConv2dSame(Conv2dSame):
    """As TensorFlow pads: by as much as the size of the images asks for."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not _in_training_on_a_cpu(images):
            return super().forward(images)
        images = pad_same(images.bfloat16(), self.kernel_size, self.stride)
        filtered = _Depthwise.apply(images, self.weight.bfloat16(), self.stride, (0, 0))
        return filtered if self.bias is None else filtered + self.bias.bfloat16().view(-1, 1, 1)


_FAST = {nn.Conv2d: _FastConv2d, Conv2dSame: _FastConv2dSame}
# Convolutions that pad images to TensorFlow's size see none that is smaller than their filters.
_SAFE = {
    kind: type(f"_Safe{kind.__name__}", (_Safe, kind), {})
    for kind in (nn.Conv2d, StdConv2d, ScaledStdConv2d)
}
