"""The demo server: it speaks the OpenAI API without a model behind it, and fails on demand."""
