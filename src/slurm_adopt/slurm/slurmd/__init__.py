"""The slurmd of another host: messages and the callerid request."""
