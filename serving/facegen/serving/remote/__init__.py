"""The engine on another server: Triton, or anything that speaks its protocol."""
