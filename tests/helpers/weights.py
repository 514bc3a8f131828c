"""Weights into a network that the test has made."""

from common.networks.fitting import LoadingReport, fit_weights
from common.networks.weights import load_weights


def start_from(network, init: str) -> LoadingReport:
    """Load a file of weights, or timm's, into a network, and report on it."""
    return fit_weights(network, load_weights(init, network))
