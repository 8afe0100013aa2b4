"""Lanes across messages: the header is written by the producer and is all a consumer believes."""

from .consumer_lane import ConsumerLane
from .headers import lane_of, message_scope, with_lane

__all__ = ("ConsumerLane", "lane_of", "message_scope", "with_lane")
