"""What the functions tell AWS X-Ray, where tracing is on."""
