"""The event log's relay: hands events to subscribers, in order, at least once."""
