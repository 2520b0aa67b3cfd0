"""The client: light, typed, synchronous. Everything the command line does is done through it."""

from qcos.client.client import Client, from_environment
from qcos.client.model import Decision, Job, Page, Price, Reason, Step
from qcos.client.retry import Retry

__all__ = ["Client", "Decision", "Job", "Page", "Price", "Reason", "Retry", "Step", "from_environment"]
