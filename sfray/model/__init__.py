"""The model: sizes, memory, prompts as token ids, features and their pooling."""
