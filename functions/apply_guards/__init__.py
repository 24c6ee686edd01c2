"""Acts on client keys that behave as none should: InferenceCompleted, InferenceFailed ─▶ overlays of keys."""
