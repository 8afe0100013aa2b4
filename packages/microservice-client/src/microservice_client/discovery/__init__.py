"""Discovery: where the instances of a service come from, their cache, and filters on them."""
