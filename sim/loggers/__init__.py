"""Loggers: what shows the metrics of runs elsewhere, such as TensorBoard."""

from basinet.sim.loggers.logger import LOGGERS, Logger, is_logger

__all__ = ["LOGGERS", "Logger", "is_logger"]

LOGGERS.fill(__name__)
