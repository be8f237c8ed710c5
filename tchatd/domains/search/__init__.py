"""Search over messages, dialogs and people that the caller may see."""
