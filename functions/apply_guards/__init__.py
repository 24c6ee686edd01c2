"""Acts on client keys that break a rule of the guards file: InferenceCompleted, InferenceFailed ─▶ overlays of keys."""
