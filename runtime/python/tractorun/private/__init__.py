"""Not for users: what is in here may change in any release."""
