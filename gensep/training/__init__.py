"""The training loop, its options and logs, and what each kind of model trains."""
