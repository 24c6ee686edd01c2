"""The local stack from start to stop: build, embedded AWS, deployment, and the file that a shell sources."""
