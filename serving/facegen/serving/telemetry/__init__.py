"""What happened: metrics, traces and logs."""
