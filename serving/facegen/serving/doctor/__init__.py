"""`facegen doctor`: what this machine has for serving, its speed, and what is wrong with it."""
