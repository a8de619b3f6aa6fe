"""Rows of many requests joined into batches, fairly and in time."""

from facegen.serving.scheduling.batcher import Batcher
from facegen.serving.scheduling.policy import BatcherSettings, QueuePolicy
from facegen.serving.scheduling.timers import Timers
from facegen.serving.scheduling.workers import Workers

__all__ = ["Batcher", "BatcherSettings", "QueuePolicy", "Timers", "Workers"]
