"""Lanes across messages: the producer writes the header, and a consumer trusts nothing else."""

from .consumer_lane import ConsumerLane
from .headers import lane_of, message_scope, with_lane

__all__ = ("ConsumerLane", "lane_of", "message_scope", "with_lane")
