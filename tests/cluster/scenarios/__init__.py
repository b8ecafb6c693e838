"""What is arranged and seen on a cluster; several tests and cells share it."""
